"""At temperature 1: the same request gives the same tokens in any batch; exact_match gives plain decoding's own tokens."""

import weakref

import pytest
import torch

from drafters.engine.cache.layer import IndexedLayer
from drafters.engine.decode import Speculative, autoregressive, speculative, stream_rounds
from drafters.engine.limits import Limits
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import build
from drafters.stop.policies.static import Static

LIMITS = Limits(12, Sampling(1.0, top_k=30, top_p=0.95))
REQUESTS = [7, 3, 1_000_003, 0]
CASES = [("standard", "full")] + [
    (name, kind) for name in ("exact_match", "tli") for kind in ("full", "pruned", "foreign")
]


def lists(decoded):
    return [tokens.tolist() for tokens in decoded.tokens]


def run(pairs, name, kind, prompts, requests, length=3, seed=0):
    pair, vocab = pairs(kind, dtype=torch.float64)  # no near-ties: batches differ in the last bit of fp32
    coins = KeyedCoins(seed, torch.tensor(requests), strict=True)
    return speculative(pair, build(name, vocab), Static(length), prompts, coins, LIMITS)


@pytest.mark.floats
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_request_does_not_see_its_batch(pairs, prompts, name, kind):
    together = run(pairs, name, kind, prompts, REQUESTS)
    for row in range(4):
        alone = run(pairs, name, kind, [prompts[row]], [REQUESTS[row]])
        assert lists(alone)[0] == lists(together)[row]
        for count in ("accepted", "drafted", "verified", "target_forwards"):
            assert getattr(alone, count)[0] == getattr(together, count)[row]
    order = [2, 0, 3, 1]
    shuffled = run(pairs, name, kind, [prompts[i] for i in order], [REQUESTS[i] for i in order])
    assert lists(shuffled) == [lists(together)[i] for i in order]


@pytest.mark.parametrize("kind", ["full", "pruned", "foreign"])
@pytest.mark.parametrize("length", [0, 1, 4])
def test_exact_match_is_plain_decoding(pairs, prompts, kind, length):
    pair, _ = pairs(kind, dtype=torch.float64)
    plain = autoregressive(pair, prompts, KeyedCoins(5, torch.tensor(REQUESTS), strict=True), LIMITS)
    assert lists(run(pairs, "exact_match", kind, prompts, REQUESTS, length, seed=5)) == lists(plain)


def test_seeds_and_requests_matter(pairs, prompts):
    first = lists(run(pairs, "standard", "full", prompts, REQUESTS))
    assert first == lists(run(pairs, "standard", "full", prompts, REQUESTS))
    assert first != lists(run(pairs, "standard", "full", prompts, REQUESTS, seed=1))
    twice = lists(run(pairs, "standard", "full", [prompts[0]] * 2, [0, 1]))
    assert twice[0] != twice[1]


def test_a_drafter_equal_to_its_target_is_always_accepted(pairs, prompts):
    pair, vocab = pairs("same", dtype=torch.float64)
    coins = KeyedCoins(0, torch.arange(4), strict=True)
    out = speculative(pair, build("standard", vocab), Static(4), prompts, coins, Limits(20))
    assert torch.equal(out.accepted, out.drafted)
    assert out.target_forwards.tolist() == [4] * 4


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_counts_add_up(pairs, prompts, name, kind):
    out = run(pairs, name, kind, prompts, REQUESTS)
    for row in range(4):
        drafted, verified, accepted = map(sum, zip(*out.rounds[row], strict=True))
        assert (drafted, verified, accepted) == (out.drafted[row], out.verified[row], out.accepted[row])
        assert len(out.rounds[row]) == out.target_forwards[row]
        assert len(out.tokens[row]) == out.accepted[row] + out.target_forwards[row]
        assert all(a <= v <= d and v - a <= 1 for d, v, a in out.rounds[row])


def test_the_executor(pairs, prompts):
    pair, vocab = pairs("full", dtype=torch.float64)
    sampler, stop = build("exact_match", vocab), Static(2)
    drafted = Speculative().decode(pair, sampler, stop, prompts, KeyedCoins(0, torch.arange(4)), LIMITS)
    assert lists(drafted) == lists(autoregressive(pair, prompts, KeyedCoins(0, torch.arange(4)), LIMITS))


def test_a_stream_gives_the_same_tokens_round_by_round(pairs, prompts):
    pair, vocab = pairs("full", dtype=torch.float64)
    for sampler, stop in (
        (build("exact_match", vocab), Static(2)),
        (build("standard", vocab), Static(3)),
        (None, None),
    ):
        coins = lambda: KeyedCoins(0, torch.arange(1))  # noqa: E731
        if sampler is None or stop is None:
            out = autoregressive(pair, prompts[:1], coins(), LIMITS)
        else:
            out = Speculative().decode(pair, sampler, stop, prompts[:1], coins(), LIMITS)
        parts = [part.tokens for part in stream_rounds(pair, sampler, stop, prompts[0], coins(), LIMITS)]
        assert [len(part) for part in parts] == [accepted + 1 for _, _, accepted in out.rounds[0]]
        assert torch.equal(torch.cat(parts), out.tokens[0])


def test_a_stream_that_is_closed_early_frees_its_caches(pairs, prompts, monkeypatch):
    pair, vocab = pairs("full")
    held, allocate = [], IndexedLayer.lazy_initialization

    def noting(self, keys, values):
        allocate(self, keys, values)
        held.extend((weakref.ref(self.keys), weakref.ref(self.values)))

    monkeypatch.setattr(IndexedLayer, "lazy_initialization", noting)
    running = stream_rounds(
        pair, build("standard", vocab), Static(2), prompts[0], KeyedCoins(0, torch.arange(1)), LIMITS
    )
    next(running)
    assert len(held) == 2 * (2 + 1)  # keys and values of the target's layers and of the drafter's one
    assert all(part() is not None for part in held)
    running.close()
    assert all(part() is None for part in held)  # by reference counting: nothing waits for the collector
