"""A base drafter beside its instruct target: one tokenizer, another end of text. It drafts as the pair with equal roles does."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from drafters.engine.decode import speculative
from drafters.engine.limits import Limits
from drafters.engine.transformers_pair import full_map, pair_of
from drafters.models.pair import load_pair
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import build
from drafters.stop import catalog as stops
from drafters.vocab.texts import Texts, read_texts

ZOO = Path(__file__).resolve().parents[3] / "drafters" / "zoo" / "pycode"
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|end|>")  # the two last ids of the vocabulary are renamed to the latter


def with_markers(folder: Path, eos: str) -> Path:
    """The folder with two more specials in place of its last, rarest tokens, and this end of text."""
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text())
    vocabulary = data["model"]["vocab"]
    last = sorted(vocabulary, key=vocabulary.__getitem__)[-2:]
    data["model"]["merges"] = [pair for pair in data["model"]["merges"] if "".join(pair) not in last]
    for name, old in zip(SPECIALS[1:], last, strict=True):
        vocabulary[name] = vocabulary.pop(old)
        more = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        data["added_tokens"].append({"id": vocabulary[name], "content": name, **more})
    path.write_text(json.dumps(data))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token": eos}))
    return folder


def texts_of(pair) -> Texts:
    return read_texts(pair.target_tokenizer, pair.drafter_tokenizer, pair.vocabulary, pair.vocabulary)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        name: with_markers(Path(shutil.copytree(ZOO / name.partition("_")[0], root / name)), eos)
        for name, eos in (("target", "<|end|>"), ("target_equal", "<|endoftext|>"), ("drafter", "<|endoftext|>"))
    }


def test_it_is_one_vocabulary(folders):
    pair = load_pair(target=folders["target"], drafter=folders["drafter"], device="cpu")
    assert (pair.foreign, pair.vocab, pair.feed) == (False, None, None)
    assert pair.eos == (0,)  # as transformers' generate reads the target's generation config
    ids = torch.tensor(pair.target_tokenizer("<|im_start|>x = 1<|end|>").input_ids)
    assert pair.drafter_prompt(ids) is ids
    texts = texts_of(pair)
    assert texts.role(0) == 0  # the drafter's end is the target's id 0, not the target's other end
    assert texts.stream([], ids.tolist()) == ids.tolist()


@pytest.mark.parametrize("name", ["standard", "slem", "slrs"])
def test_it_accepts_what_the_pair_with_equal_roles_accepts(folders, name):
    found = []
    for target in ("target", "target_equal"):
        pair = load_pair(target=folders[target], drafter=folders["drafter"], device="cpu")
        texts = texts_of(pair)
        sampler = build(name, full_map(pair), texts=lambda texts=texts: texts)
        prompts = [
            torch.tensor(pair.target_tokenizer(text).input_ids) for text in ("def f(x):\n", "<|im_start|>import ")
        ]
        coins = KeyedCoins(1, torch.arange(2))
        limits = Limits(24, Sampling(0.7))
        found.append(speculative(pair_of(pair), sampler, stops.build("static"), prompts, coins, limits))
    other, equal = found
    assert all(map(torch.equal, other.tokens, equal.tokens))
    assert torch.equal(other.accepted, equal.accepted)
    assert int(equal.accepted.sum()) > 0
