"""String-level samplers through the real engine: the target's own tokens, and a drafter cache that is never wrong."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import drafters.engine.drafting.text as strings
from drafters.engine.decode import autoregressive, speculative
from drafters.engine.limits import Limits
from drafters.engine.transformers_pair import full_map, pair_of
from drafters.models.pair import load_pair, vocabulary_size
from drafters.probs import Sampling, warp
from drafters.rng.coins import KeyedCoins
from drafters.rounding import excess
from drafters.samplers.catalog import build
from drafters.stop.policies.static import Static
from drafters.vocab.texts import read_texts
from eval.lossless.toys.text_table_models import worded_pair
from tests.data import shared_path
from tests.rounding import largest_bound

ROOT = Path(__file__).resolve().parents[4]
ZOO = ROOT / "drafters" / "zoo" / "pycode"
FOLDERS = {
    "letters": ("models/tinystories-bit-1M", "models/babyllama-105"),
    "embedded": (ZOO / "target", ZOO / "foreign"),
    "same": (ZOO / "target", ZOO / "drafter"),
}
PROMPTS = {
    "letters": ["Once upon a time, there was a little girl named", "é 日本  x", "Tom"],
    "embedded": ["def add(a, b):\n    return", "import os\n\n\nclass Ünïcode:  # 日本 👩\n    x =", "1234567"],
}
PROMPTS["same"] = PROMPTS["embedded"]


@pytest.fixture(scope="module", params=FOLDERS)
def loaded(request):
    target, drafter = (folder if isinstance(folder, Path) else shared_path(folder) for folder in FOLDERS[request.param])
    models = load_pair(target=target, drafter=drafter, device="cpu", dtype="fp32")
    sizes = models.vocabulary, vocabulary_size(models.drafter.config)
    texts = read_texts(models.target_tokenizer, models.drafter_tokenizer, *sizes)
    prompts = [torch.tensor(models.target_tokenizer.encode(text)) for text in PROMPTS[request.param]]
    return models, pair_of(models), lambda: texts, prompts


def coins(rows, seed=5):
    return KeyedCoins(seed, torch.arange(rows), strict=True)


@pytest.mark.parametrize("length", [1, 8])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_slem_writes_what_plain_decoding_writes(loaded, temperature, length):
    models, pair, texts, prompts = loaded
    limits = Limits(16, Sampling(temperature))
    plain = autoregressive(pair, prompts, coins(len(prompts)), limits)
    sampler = build("slem", full_map(models), texts=texts)
    out = speculative(pair, sampler, Static(length), prompts, coins(len(prompts)), limits)
    assert [row.tolist() for row in out.tokens] == [row.tolist() for row in plain.tokens]
    if temperature == 0.0:
        assert int(out.accepted.sum()) > 0
        assert int(out.target_forwards.sum()) < int(plain.target_forwards.sum())


@pytest.mark.parametrize("name", ["union", "slrs"])
def test_rejection_of_partial_laws_is_greedy_at_temperature_zero(loaded, name):
    models, pair, texts, prompts = loaded
    limits = Limits(16, Sampling(0.0))
    plain = autoregressive(pair, prompts, coins(len(prompts)), limits)
    out = speculative(pair, build(name, full_map(models), texts=texts), Static(4), prompts, coins(len(prompts)), limits)
    assert [row.tolist() for row in out.tokens] == [row.tolist() for row in plain.tokens]


@pytest.mark.floats
@pytest.mark.parametrize("name", ["union", "slrs", "slem"])
def test_a_row_does_not_see_its_batch(loaded, name):
    models, pair, texts, prompts = loaded
    sampler, limits = build(name, full_map(models), texts=texts), Limits(12)
    together = speculative(pair, sampler, Static(4), prompts, coins(len(prompts)), limits)
    for number, prompt in enumerate(prompts):
        alone = speculative(pair, sampler, Static(4), [prompt], KeyedCoins(5, torch.tensor([number])), limits)
        assert alone.tokens[0].tolist() == together.tokens[number].tolist()


@pytest.mark.floats
def test_the_drafters_cache_is_what_it_has_read(loaded, monkeypatch):
    """Every law of every round equals that of the row's whole stream, read afresh without a cache."""
    models, pair, texts, prompts = loaded
    checked, bound = 0, largest_bound(models.drafter)

    class Checked(strings.StringSession):
        def law(self):
            nonlocal checked
            law = super().law()
            for row, state in enumerate(self._rows):
                if state.finished:
                    continue
                stream = torch.tensor([[*state.stream, *self._fed[row]]])
                fresh = models.drafter(input_ids=stream, use_cache=False).logits[0, -1]
                if len(self._fed[row]) == max(map(len, self._fed)):  # else it was left as it is
                    expected = warp(fresh, self._sampling)  # softmax: log q is off by up to twice what logits are
                    assert excess(law[row].log(), expected.log(), 2 * bound) <= 1
                    checked += 1
            return law

    monkeypatch.setattr("drafters.engine.decode.StringSession", Checked)
    sampler = build("slem", full_map(models), texts=texts)
    speculative(pair, sampler, Static(4), prompts, coins(len(prompts)), Limits(10))
    assert checked > 12


def test_the_last_round_drafts_no_more_than_is_left(loaded):
    models, pair, texts, prompts = loaded
    sampler = build("slem", full_map(models), texts=texts)
    out = speculative(pair, sampler, Static(6), prompts, coins(len(prompts)), Limits(3, Sampling(0.0)))
    assert all(len(row) <= 3 for row in out.tokens)
    assert all(drafted <= 2 for rounds in out.rounds for drafted, _, _ in rounds)


def test_no_drafts_is_plain_decoding(loaded):
    models, pair, texts, prompts = loaded
    sampler = build("slem", full_map(models), texts=texts)
    out = speculative(pair, sampler, Static(0), prompts, coins(len(prompts)), Limits(5))
    plain = autoregressive(pair, prompts, coins(len(prompts)), Limits(5))
    assert [row.tolist() for row in out.tokens] == [row.tolist() for row in plain.tokens]
    assert int(out.drafted.sum()) == 0


@pytest.mark.parametrize("context", [3, 6, 12])
@pytest.mark.parametrize("name", ["slem", "slrs"])
def test_a_full_drafter_context_ends_the_drafting_of_its_row(name, context):
    tables = replace(worded_pair(["a", "b", "ab", "bab"], ["a", "b"], 3), context=(None, context))
    sampler = build(name, tables.vocab, texts=tables.texts)
    prompts = [torch.tensor([0, 2]), torch.tensor([1]), torch.tensor([3, 3, 3, 3, 3])]
    limits = Limits(12, Sampling(0.0))
    plain = autoregressive(tables, prompts, coins(3), limits)
    out = speculative(tables, sampler, Static(2), prompts, coins(3), limits)
    assert [row.tolist() for row in out.tokens] == [row.tolist() for row in plain.tokens]
    assert int(out.drafted[2]) == 0  # 15 drafter ids
    assert int(out.drafted[1]) > 0 or context == 3
