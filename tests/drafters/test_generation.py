"""drafters.generate on real and tiny models: greedy output equals plain greedy decoding, names are checked, EOS
ends."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import drafters
from drafters.generation import generate
from drafters.models.pair import PairError, load_pair
from drafters.package.writer import Origin, describe, save_package
from drafters.samplers.lossy_settings import LossyError
from drafters.stop.policy import StopError
from drafters.vocab.alignment import VocabMap, identity, restrict
from tests.data import DATA, needs

MODELS = DATA / "models"
needs_models = needs("models")
PROMPT = "Once upon a time, there was a little girl named"


def package_of(pair, directory, kept, vocab):
    """A package of the pair's drafter with head rows ``kept``."""
    sizes = [form.config.vocab_size for form in (pair.target, pair.drafter)]
    description = describe(
        "real", Origin("target", None, None, sizes[0]), Origin("drafter", None, None, sizes[1]),
        kept=len(kept), foreign=pair.foreign, eos=pair.eos,
    )  # fmt: skip
    tokenizer = pair.drafter_tokenizer
    save_package(
        directory,
        model=pair.drafter,
        tokenizer=tokenizer,
        kept=kept,
        vocab=vocab,
        description=description,
        licence="MIT",
    )
    return drafters.load(directory, device="cpu")


@pytest.fixture(scope="module")
def same(tmp_path_factory):
    """tinystories-bit-1M with stories260K, its head cut to half."""
    pair = load_pair(target=MODELS / "tinystories-bit-1M", drafter=MODELS / "stories260K", device="cpu")
    kept = torch.cat([torch.tensor([0, 1, 2]), torch.arange(256, 512)])
    return pair, package_of(pair, tmp_path_factory.mktemp("same") / "package", kept, restrict(identity(512), kept))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """tinystories-bit-1M with babyllama-105: another tokenizer, which drops characters that it does not know."""
    pair = load_pair(target=MODELS / "tinystories-bit-1M", drafter=MODELS / "babyllama-105", device="cpu")
    kept = (pair.vocab.to_target >= 0).nonzero().flatten()
    vocab = restrict(pair.vocab, kept)
    return pair, package_of(pair, tmp_path_factory.mktemp("foreign") / "package", kept, vocab)


def greedy(pair, prompt, length):
    out = pair.target.generate(
        prompt.unsqueeze(0), max_new_tokens=length, do_sample=False, eos_token_id=list(pair.eos), pad_token_id=0
    )
    return out[0, prompt.shape[0] :].tolist()


@needs_models
@pytest.mark.parametrize("text", [PROMPT, "é 日本"])
@pytest.mark.parametrize("kind", ["same", "foreign"])
@pytest.mark.parametrize("sampler", [None, "exact_match", "union", "slem", "slrs"])
def test_greedy_equals_plain_greedy(kind, sampler, text, request):
    pair, package = request.getfixturevalue(kind)
    prompt = torch.tensor(pair.target_tokenizer.encode(text))
    out = generate(pair.target, package, prompt, sampler=sampler, temperature=0.0, max_new_tokens=24)
    assert out.tokens[0].tolist() == greedy(pair, prompt, 24)
    assert int(out.drafted) > 0


@pytest.mark.floats
@needs_models
@pytest.mark.parametrize("kind", ["same", "foreign"])
def test_drafts_are_accepted_and_seeds_repeat(kind, request):
    pair, package = request.getfixturevalue(kind)
    prompts = [torch.tensor(pair.target_tokenizer.encode(text)) for text in (PROMPT, "Tom had a ball.")]
    one, two, other = (generate(pair.target, package, prompts, max_new_tokens=24, seed=seed) for seed in (3, 3, 4))
    assert [row.tolist() for row in one.tokens] == [row.tolist() for row in two.tokens]
    assert [row.tolist() for row in one.tokens] != [row.tolist() for row in other.tokens]
    assert (one.accepted > 0).all()
    assert (one.target_forwards <= 24).all()
    alone = generate(pair.target, package, prompts[0], max_new_tokens=24, seed=3)
    assert alone.tokens[0].tolist() == one.tokens[0].tolist()


@needs_models
def test_a_stop_string_ends_the_text(same):
    pair, package = same
    prompt = torch.tensor(pair.target_tokenizer.encode(PROMPT))
    out = generate(pair.target, package, prompt, temperature=0.0, max_new_tokens=60, stop_strings=["."])
    text = pair.target_tokenizer.decode(out.tokens[0])
    assert "." in text[-3:]
    assert len(out.tokens[0]) < 60


@needs_models
def test_a_list_of_ends_of_text_ends_it(same):
    """Id 1 is the second of the list in generation_config.json; TinyStories ends its stories with it."""
    pair, package = same
    prompt = torch.tensor(pair.target_tokenizer.encode("They were happy."))
    out = generate(pair.target, package, prompt, temperature=0.0, max_new_tokens=90)
    assert pair.eos == (1, 2)
    assert out.tokens[0][-1] == 1
    assert len(out.tokens[0]) < 90
    assert not set(out.tokens[0][:-1].tolist()) & {1, 2}


@needs_models
def test_names_and_values_are_checked(same):
    pair, package = same
    prompt = torch.tensor([1, 5])
    with pytest.raises(ValueError, match=r"unknown sampler 'tly'; known: .*did you mean 'tli'"):
        generate(pair.target, package, prompt, sampler="tly")
    with pytest.raises(StopError, match=r"unknown stop policy 'statik'; did you mean 'static'"):
        generate(pair.target, package, prompt, stop="statik")
    with pytest.raises(ValueError, match="use sampler='tli'"):
        generate(pair.target, package, prompt, sampler="standard")
    with pytest.raises(ValueError, match="from 0 to 511, got -100 to 5"):
        generate(pair.target, package, torch.tensor([-100, 5]))
    with pytest.raises(ValueError, match="shape"):
        generate(pair.target, package, torch.zeros(1, 1, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="int64"):
        generate(pair.target, package, torch.tensor([1.0]))


@needs_models
@pytest.mark.parametrize(("name", "value"), [("repetition_penalty", 1.1), ("assistant_ensemble_weight", 0.4)])
def test_settings_that_bend_the_law_are_refused(same, monkeypatch, name, value):
    pair, package = same
    monkeypatch.setattr(pair.target.generation_config, name, value)
    with pytest.raises(LossyError, match=f"target's generation config.*{name}={value}"):
        generate(pair.target, package, torch.tensor([1, 5]), max_new_tokens=2)


@needs_models
def test_another_target_is_refused(same):
    _, package = same
    other = load_pair(target=MODELS / "babyllama-105", drafter=MODELS / "babyllama-105", device="cpu").target
    with pytest.raises(PairError, match=r"made for target with 512 tokens, got a target with 105"):
        generate(other, package, torch.tensor([1]))


@needs_models
def test_a_foreign_drafter_needs_the_targets_tokenizer(foreign, monkeypatch):
    pair, package = foreign
    monkeypatch.setattr(pair.target, "name_or_path", "org/name")
    with pytest.raises(PairError, match="pass target_tokenizer="):
        generate(pair.target, package, torch.tensor([1]))
    out = generate(pair.target, package, torch.tensor([1]), target_tokenizer=pair.target_tokenizer, max_new_tokens=5)
    assert len(out.tokens[0]) == 5


def test_an_unpruned_drafter_uses_the_plain_rejection_sampler(tmp_path):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, eos_token_id=2,
    )  # fmt: skip
    target, drafter = LlamaForCausalLM(config).eval(), LlamaForCausalLM(config).eval()
    backend = Tokenizer(models.WordLevel({chr(0x41 + i): i for i in range(32)}, unk_token="A"))
    backend.decoder = decoders.ByteLevel()
    everything = torch.arange(32)
    description = describe(
        "whole", Origin("t", None, None, 32), Origin("d", None, None, 32), kept=32, foreign=False, eos=(2,)
    )
    save_package(
        tmp_path / "package",
        model=drafter,
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=backend),
        kept=everything,
        vocab=VocabMap(everything, everything),
        description=description,
        licence="MIT",
    )
    package = drafters.load(tmp_path / "package", device="cpu")
    assert drafters.generate is generate
    prompt = torch.tensor([[3, 4, 5]])
    out = generate(target, package, prompt, max_new_tokens=30)
    assert (
        out.tokens[0].tolist()
        == generate(target, package, prompt, max_new_tokens=30, sampler="standard").tokens[0].tolist()
    )
