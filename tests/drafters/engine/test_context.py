"""Context limits: the target's is an error before anything runs, the drafter's only ends the drafting."""

import pytest
import torch

from drafters.engine.decode import autoregressive, speculative
from drafters.engine.limits import Limits
from drafters.engine.prefill import RequestError
from drafters.engine.transformers_pair import TransformersPair
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import build
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import identity
from eval.lossless.toys.table_models import foreign_pair

V = 61
LONG = torch.arange(60) % V


def coins(rows):
    return KeyedCoins(0, torch.arange(rows), strict=True)


def lists(decoded):
    return [tokens.tolist() for tokens in decoded.tokens]


def test_a_request_beyond_the_targets_context_is_refused(pairs):
    pair, vocab = pairs("full")
    with pytest.raises(
        RequestError, match=r"prompt 1: 60 prompt tokens \+ 40 new ones exceed the target's context of 96"
    ):
        speculative(pair, build("tli", vocab), Static(2), [LONG[:3], LONG], coins(2), Limits(40))


def test_empty_input_is_refused(pairs):
    pair, _ = pairs("full")
    with pytest.raises(RequestError, match="at least one, got none"):
        autoregressive(pair, [], coins(0), Limits(4))
    with pytest.raises(RequestError, match="prompt 1 is empty"):
        autoregressive(pair, [LONG[:2], LONG[:0]], coins(2), Limits(4))


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt"])
def test_the_last_position_of_the_target_is_usable(pairs, architecture):
    """Rows that end at the context's end, next to a row that still drafts: learned positions allow no step beyond."""
    pair, vocab = pairs("full", target=architecture)
    batch, limits = [LONG, LONG[:5]], Limits(36, Sampling(0.0))
    expected = lists(autoregressive(pair, batch, coins(2), limits))
    assert lists(speculative(pair, build("standard", vocab), Static(5), batch, coins(2), limits)) == expected
    assert lists(speculative(pair, build("standard", vocab), Static(40), batch, coins(2), limits)) == expected


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("context", [8, 16, 24])
def test_a_full_drafter_context_ends_the_drafting(models, architecture, context):
    """Some prompts fit, some fill up on the way, one never fitted: all go on, as plain decoding does."""
    size = {"n_positions": context} if architecture == "gpt2" else {"max_position_embeddings": context}
    pair = TransformersPair(models("llama"), models(architecture, seed=4, **size), ())
    sampler, limits = build("standard", identity(V)), Limits(30, Sampling(0.0))
    batch = [LONG[:20], LONG[:3], LONG[:7], LONG[40:41]]
    out = speculative(pair, sampler, Static(3), batch, coins(4), limits)
    assert lists(out) == lists(autoregressive(pair, batch, coins(4), limits))
    assert int(out.drafted[3]) > 0
    for prompt, rounds in zip(batch, out.rounds, strict=True):
        length = len(prompt)
        for drafted, _, accepted in rounds:
            assert drafted == 0 or length + drafted <= context
            length += accepted + 1


@pytest.mark.parametrize("context", [4, 6, 9, 14])
def test_a_full_foreign_drafter_context(context):
    """Target tokens spelled by several drafter ids fill a context faster than rounds go by."""
    tables = foreign_pair(3)
    pair = type(tables)(tables.target, tables.drafter, tables.vocab, (), tables.spelling, context=(None, context))
    sampler = build("exact_match", tables.vocab)
    batch = [torch.tensor(ids) for ids in ([0, 1, 2, 2, 2], [1], [2, 2], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])]
    limits = Limits(25)
    out = speculative(pair, sampler, Static(2), batch, coins(4), limits)
    assert lists(out) == lists(autoregressive(pair, batch, coins(4), limits))
    assert int(out.drafted[1]) > 0


def test_drafting_uses_the_whole_context(models):
    """A draft is not given up while it still fits, whatever the policy's maximum."""
    pair = TransformersPair(models("llama"), models("llama", seed=4), ())
    out = speculative(pair, build("standard", identity(V)), Static(50), [LONG[:4]], coins(1), Limits(6, Sampling(0.0)))
    assert int(out.drafted[0]) >= 5
