"""drafters.generate on real and tiny models: greedy output equals plain greedy decoding, names are checked, EOS
ends."""

import copy
import warnings

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import BatchEncoding, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import drafters
from drafters.engine.cache.cached_model import TransformersModel
from drafters.engine.cache.supported_models import UnsupportedModel
from drafters.engine.prefill import RequestError
from drafters.generation import generate, stream, stream_rounds
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
    with pytest.raises(PairError, match="pass tokenizer="):
        generate(pair.target, package, torch.tensor([1]))
    out = generate(pair.target, package, torch.tensor([1]), tokenizer=pair.target_tokenizer, max_new_tokens=5)
    assert len(out.tokens[0]) == 5


def tiny_pair(directory, drafter_context):
    """(target, package of an unpruned drafter): random Llamas of 32 tokens."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=128, initializer_range=0.3, eos_token_id=2, pad_token_id=None,
    )  # fmt: skip
    target = LlamaForCausalLM(config).eval()
    config = copy.deepcopy(config)
    config.max_position_embeddings = drafter_context
    backend = Tokenizer(models.WordLevel({chr(0x41 + i): i for i in range(32)}, unk_token="A"))
    backend.decoder = decoders.ByteLevel()
    everything = torch.arange(32)
    description = describe(
        "whole", Origin("t", None, None, 32), Origin("d", None, None, 32), kept=32, foreign=False, eos=(2,)
    )
    save_package(
        directory,
        model=LlamaForCausalLM(config).eval(),
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=backend),
        kept=everything,
        vocab=VocabMap(everything, everything),
        description=description,
        licence="MIT",
    )
    return target, drafters.load(directory, device="cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_pair(tmp_path_factory.mktemp("tiny") / "package", 128)


def test_an_unpruned_drafter_uses_the_plain_rejection_sampler(tiny):
    assert drafters.generate is generate
    assert drafters.stream is stream
    assert drafters.stream_rounds is stream_rounds
    prompt = torch.tensor([[3, 4, 5]])
    out = generate(*tiny, prompt, max_new_tokens=30)
    assert out.tokens[0].tolist() == generate(*tiny, prompt, max_new_tokens=30, sampler="standard").tokens[0].tolist()


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_batch_gives_what_its_prompts_give(tiny, side):
    """Pads are ends of text, as many tokenizers have it: with the mask as prompts alone, without it refused."""
    prompts = [[3, 4, 5, 9, 8], [7], [11, 12, 13]]
    ids, mask = (
        torch.tensor([[*ends, *row] if side == "left" else [*row, *ends] for row, ends in rows])
        for rows in (
            [(row, [2] * (5 - len(row))) for row in prompts],
            [([1] * len(row), [0] * (5 - len(row))) for row in prompts],
        )
    )
    for temperature in (0.0, 1.0):
        alone = generate(*tiny, [torch.tensor(row) for row in prompts], temperature=temperature, max_new_tokens=20)
        forms = [{"input_ids": ids, "attention_mask": mask}, BatchEncoding({"input_ids": ids, "attention_mask": mask})]
        for out in (
            generate(*tiny, **forms[0], temperature=temperature, max_new_tokens=20),
            generate(*tiny, forms[1], temperature=temperature, max_new_tokens=20),
        ):
            assert [row.tolist() for row in out.tokens] == [row.tolist() for row in alone.tokens]
    with pytest.raises(ValueError, match=r"2 of 3 rows .* with pad ids.*give attention_mask="):
        generate(*tiny, ids)


def test_a_left_padded_batch_is_transformers_own(tiny):
    target, package = tiny
    ids, mask = torch.tensor([[3, 4, 5, 9], [0, 0, 7, 6]]), torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    expected = target.generate(
        ids, attention_mask=mask, max_new_tokens=12, do_sample=False, eos_token_id=2, pad_token_id=0
    )
    out = generate(target, package, ids, attention_mask=mask, temperature=0.0, max_new_tokens=12)
    for row, own in zip(out.tokens, expected[:, 4:].tolist(), strict=True):
        assert row.tolist() == own[: len(row)]


@needs_models
def test_texts_and_what_the_tokenizer_makes_of_them(same):
    pair, package = same
    texts = [PROMPT, "They were happy."]
    encoded = [torch.tensor(pair.target_tokenizer(text)["input_ids"]) for text in texts]
    expected = [row.tolist() for row in generate(pair.target, package, encoded, seed=3, max_new_tokens=12).tokens]
    for given, more in (
        (texts, {"tokenizer": pair.target_tokenizer}),
        (texts, {}),
        ([e.tolist() for e in encoded], {}),
    ):
        out = generate(pair.target, package, given, seed=3, max_new_tokens=12, **more)
        assert [row.tolist() for row in out.tokens] == expected
    parts = list(stream(pair.target, package, texts[0], seed=3, max_new_tokens=12))
    assert torch.cat(parts).tolist() == expected[0]


def test_a_stream_takes_one_prompt_and_says_what_is_wrong_at_once(tiny):
    parts = stream(*tiny, [3, 4, 5], temperature=0.0, max_new_tokens=40, lookahead=3)
    out = generate(*tiny, [3, 4, 5], temperature=0.0, max_new_tokens=40, lookahead=3)
    found = list(parts)
    assert [len(part) for part in found] == [accepted + 1 for _, _, accepted in out.rounds[0]]
    assert torch.cat(found).tolist() == out.tokens[0].tolist()
    with pytest.raises(ValueError, match="expected one prompt, got 2"):
        stream(*tiny, [[3], [4]])
    with pytest.raises(ValueError, match="unknown sampler"):
        stream(*tiny, [3], sampler="tly")
    with pytest.raises(RequestError, match="exceed the target's context of 128"):
        stream(*tiny, [3], max_new_tokens=128)
    with pytest.raises(ValueError, match="expected one prompt, got 2"):
        stream_rounds(*tiny, [[3], [4]])


@needs_models
@pytest.mark.parametrize("kind", ["same", "foreign"])
@pytest.mark.parametrize("sampler", ["tli", "slem"])
def test_rounds_are_those_of_generate(kind, sampler, request):
    pair, package = request.getfixturevalue(kind)
    options = {"sampler": sampler, "max_new_tokens": 24, "seed": 5, "tokenizer": pair.target_tokenizer}
    found = list(stream_rounds(pair.target, package, PROMPT, **options))
    out = generate(pair.target, package, PROMPT, **options)
    assert torch.cat([each.tokens for each in found]).tolist() == out.tokens[0].tolist()
    assert [(each.drafted, each.verified, each.accepted) for each in found] == out.rounds[0]
    assert sum(who == "accepted" for each in found for who in each.who) == int(out.accepted[0])


def test_a_target_whose_attention_takes_no_masks_is_refused(tiny, monkeypatch):
    target, package = tiny
    monkeypatch.setattr(target.config, "_attn_implementation_internal", "flash_attention_2")
    monkeypatch.setattr(TransformersModel, "__init__", None)  # nothing is opened
    for call in (generate, stream):
        with pytest.raises(
            UnsupportedModel, match=r"llama: attn_implementation='flash_attention_2'.*give sdpa or eager"
        ):
            call(target, package, [3, 4])


def test_a_drafter_with_a_shorter_context_is_told_once_and_changes_nothing(tmp_path):
    """Prompt of 60, 60 new ones, drafter's context 64: drafts until there, then plain decoding."""
    target, package = tiny_pair(tmp_path / "package", 64)
    target.generation_config.eos_token_id = target.config.eos_token_id = None
    package.description["eos"].clear()
    prompt = torch.arange(3, 31).repeat(3)[:60]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generate(target, package, prompt[:8], max_new_tokens=56)  # within it
    with pytest.warns(
        UserWarning, match="the drafter's context ends at 64 tokens and this call may reach 120"
    ) as caught:
        out = generate(target, package, prompt, temperature=0.0, max_new_tokens=60, lookahead=1)
    assert caught[0].filename == __file__
    expected = target.generate(prompt[None], max_new_tokens=60, do_sample=False, pad_token_id=0)[0, 60:]
    assert out.tokens[0].tolist() == expected.tolist()
    drafted = [count for count, _, _ in out.rounds[0]]
    assert drafted[0] == 1
    assert not any(drafted[4:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = generate(target, package, prompt, temperature=0.0, max_new_tokens=60)
    assert again.tokens[0].tolist() == expected.tolist()
