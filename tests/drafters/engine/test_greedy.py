"""At temperature 0 every sampler gives, token by token, what transformers' greedy `generate` gives."""

import pytest
import torch

from drafters.engine.decode import autoregressive, speculative
from drafters.engine.limits import Limits
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import build
from drafters.stop.policies.static import Static

NEW = 14
GREEDY = Limits(NEW, Sampling(0.0))
CASES = [("standard", "full"), ("standard", "same")] + [
    (name, kind) for name in ("exact_match", "tli") for kind in ("full", "same", "pruned", "foreign")
]


def coins(rows):
    return KeyedCoins(0, torch.arange(rows), strict=True)


def generated(model, prompt, eos=(), new=NEW):
    with torch.inference_mode():
        out = model.generate(
            prompt.unsqueeze(0), attention_mask=torch.ones(1, len(prompt)), do_sample=False, max_new_tokens=new,
            eos_token_id=list(eos) or None, pad_token_id=0,
        )  # fmt: skip
    return out[0, len(prompt) :].tolist()


def lists(decoded):
    return [tokens.tolist() for tokens in decoded.tokens]


@pytest.mark.floats
@pytest.mark.parametrize("rows", [1, 2, 3, 4])
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_equal_to_generate(pairs, prompts, name, kind, rows):
    pair, vocab = pairs(kind)
    batch = prompts[-rows:]
    out = speculative(pair, build(name, vocab), Static(3), batch, coins(rows), GREEDY)
    assert lists(out) == [generated(pair.target, prompt) for prompt in batch]
    if kind == "same":
        assert torch.equal(out.accepted, out.drafted)
        assert int(out.target_forwards.max()) == -(-NEW // 4)
    assert all(int(x) == NEW for x in out.accepted + out.target_forwards)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_equal_in_fp64_and_for_every_draft_length(pairs, prompts, name, kind):
    pair, vocab = pairs(kind, dtype=torch.float64)
    expected = [generated(pair.target, prompt) for prompt in prompts]
    for length in (0, 1, 7, 30):
        out = speculative(pair, build(name, vocab), Static(length), prompts, coins(4), GREEDY)
        assert lists(out) == expected
        assert int(out.drafted.max()) > 0 or length == 0


@pytest.mark.parametrize("architecture", ["gpt2", "mistral-window", "gemma2", "gpt-neox", "opt"])
def test_equal_on_other_architectures(pairs, prompts, architecture):
    """A target of one family with a drafter of another."""
    pair, vocab = pairs("full", target=architecture, drafter="gpt2")
    expected = [generated(pair.target, prompt) for prompt in prompts]
    assert lists(autoregressive(pair, prompts, coins(4), GREEDY)) == expected
    assert lists(speculative(pair, build("standard", vocab), Static(4), prompts, coins(4), GREEDY)) == expected


def test_autoregressive_equals_generate(pairs, prompts):
    pair, _ = pairs("full")
    out = autoregressive(pair, prompts, coins(4), GREEDY)
    assert lists(out) == [generated(pair.target, prompt) for prompt in prompts]
    assert out.target_forwards.tolist() == [NEW] * 4
    assert not out.drafted.any()


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_lists_of_eos(pairs, prompts, name, kind):
    """Tokens that greedy decoding really says, at different places in each row."""
    plain = [generated(pairs("full")[0].target, prompt) for prompt in prompts]
    eos = tuple({plain[0][3], plain[1][0], plain[2][6]})
    pair, vocab = pairs(kind, eos=eos)
    expected = [generated(pair.target, prompt, eos) for prompt in prompts]
    assert min(map(len, expected)) < NEW
    for length in (1, 4):
        out = speculative(pair, build(name, vocab), Static(length), prompts, coins(4), GREEDY)
        assert lists(out) == expected
    ignoring = Limits(NEW, Sampling(0.0), ignore_eos=True)
    assert lists(speculative(pair, build(name, vocab), Static(4), prompts, coins(4), ignoring)) == plain


@pytest.mark.parametrize("new", [1, 2, 5])
def test_maximal_lengths(pairs, prompts, new):
    pair, vocab = pairs("same")
    out = speculative(pair, build("standard", vocab), Static(4), prompts, coins(4), Limits(new, Sampling(0.0)))
    assert lists(out) == [generated(pair.target, prompt, new=new) for prompt in prompts]
    assert (
        out.drafted.tolist() == [4 * (new // 5) + max(new % 5 - 1, 0)] * 4
    )  # nothing is drafted that could not be used


@pytest.mark.parametrize("kind", ["same", "foreign"])
def test_stop_strings_cut_inside_a_draft(pairs, prompts, kind):
    pair, vocab = pairs(kind)
    plain = [generated(pair.target, prompt) for prompt in prompts]
    stop = f"<{plain[0][4]}><{plain[0][5]}>"  # two tokens: completed by the second
    limits = Limits(NEW, Sampling(0.0), stop_strings=(stop, "never"), text=lambda ids: "".join(f"<{i}>" for i in ids))
    out = speculative(pair, build("tli", vocab), Static(3), prompts, coins(4), limits)
    for tokens, full in zip(lists(out), plain, strict=True):
        text = "".join(f"<{i}>" for i in full)
        assert tokens == full[: text[: text.find(stop) + len(stop)].count("<")] if stop in text else tokens == full
    assert len(out.tokens[0]) <= 6


def test_a_drafter_that_is_always_wrong(pairs, prompts):
    """Drafts are the target's least likely tokens: nothing is accepted, nothing is lost, every round gives one token."""
    pair, vocab = pairs("same")

    class Contrary(type(pair)):
        def open_drafter(self, rows, capacity):
            model = super().open_drafter(rows, capacity)
            clean = model.extend
            model.extend = lambda *args, **kwargs: None if (out := clean(*args, **kwargs)) is None else -out
            return model

    contrary = Contrary(pair.target, pair.drafter, ())
    out = speculative(contrary, build("standard", vocab), Static(3), prompts, coins(4), GREEDY)
    assert lists(out) == [generated(pair.target, prompt) for prompt in prompts]
    assert out.accepted.tolist() == [0] * 4
    assert out.target_forwards.tolist() == [NEW] * 4
    assert out.verified.tolist() == [NEW - 1] * 4  # one tested position per round that drafted
