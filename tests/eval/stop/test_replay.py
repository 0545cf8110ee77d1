"""Replays: conservation, the oracle's bound, costs by hand, the cost-aware rule on drafts whose chances are known."""

import numpy as np
import pytest
import torch

from drafters.stop.catalog import build
from drafters.stop.classifier import ACCEPTED, NEXT
from drafters.stop.features import NAMES
from drafters.stop.policies.cost_aware import CostAware
from drafters.stop.policies.static import Static
from eval.stop.policy_comparison import best_static, oracle, paired_gain, table
from eval.stop.replay import Prices, Trace, replay, run_lengths
from pipeline.disco.policies.tune import fixed_point

PRICES = Prices({1: 1.0, 2: 1.0, 5: 1.0}, drafter=0.15)


def markov(requests, length, seed, stay=0.9, chances=(0.95, 0.7, 0.2)):
    """Acceptance that depends on a state which seldom changes; features tell this state's chance and the next one's."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(requests):
        states = [rng.integers(3)]
        while len(states) <= length:
            states.append(states[-1] if rng.random() < stay else rng.integers(3))
        b = np.array(chances)[states]
        features = torch.zeros(length, len(NAMES))
        features[:, 0] = torch.tensor(b[:length])
        features[:, 1] = torch.tensor(stay * b[:length] + (1 - stay) * np.mean(chances))
        chance = torch.tensor(b[:length]).float()
        found.append(Trace(features, torch.tensor(rng.random(length) < b[:length]), chance, chance))
    return found


class Knows:
    """The state's chances, read from the features."""

    def __call__(self, features):
        return torch.stack([features[:, 0], features[:, 1]], 1)


def test_run_lengths():
    assert run_lengths(torch.tensor([1, 1, 0, 1]).bool()).tolist() == [2, 1, 0, 1]


def test_a_replay_by_hand():
    trace = Trace(torch.zeros(6, len(NAMES)), torch.tensor([1, 1, 0, 1, 1, 1]).bool(), torch.ones(6), torch.ones(6))
    found = replay([trace], Static(2))
    # 0 1 accepted, 2 the target's own; 3 4 accepted, 5 has no room for a draft
    assert found.rounds.tolist() == [[0, 2, 2, 5], [0, 2, 2, 2]]
    assert (found.tokens, found.drafted, found.accepted, found.forwards, found.early) == (6, 4, 4, 2, 0.0)
    prices = Prices({1: 10.0, 3: 14.0}, drafter=1.0, stop=0.5)
    assert found.seconds(prices) == pytest.approx(2 * (14 + 2))
    assert found.speed(prices) == pytest.approx(60 / 32)
    assert prices.verify(np.array([0, 1, 2, 4])).tolist() == pytest.approx([10, 12, 14, 18])
    assert prices.marginal(2) == pytest.approx((1 + 0.5 + 2) / 10)
    # What a second token of a forward costs over the first is paid by every round that drafts.
    assert Prices({1: 10, 2: 14, 4: 16}, 1).marginal(3) == pytest.approx((1 + 1) / 10)


@pytest.mark.parametrize("name", ["static", "heuristic", "cost_aware"])
def test_tokens_are_conserved_and_no_policy_beats_the_oracle(name):
    traces = markov(30, 60, seed=0)
    policy = CostAware(Knows(), 0.15) if name == "cost_aware" else build(name)
    found, bound = replay(traces, policy), oracle(traces)
    for outcome in (found, bound):
        assert outcome.accepted + outcome.forwards == outcome.tokens == 30 * 60
    assert bound.drafted == bound.accepted
    assert found.speed(PRICES) < bound.speed(PRICES)
    rows = {row.policy: row for row in table({"static": Static(3), name: policy}, traces, PRICES, static="static")}
    assert rows["oracle"].gap_closed == pytest.approx(1)
    assert rows["static"].gap_closed == pytest.approx(0)
    assert rows["oracle"].wasted == 0


class Counting:
    """The classifier that knows, and how many drafts it was told of."""

    def __init__(self):
        self.told = 0

    def __call__(self, features):
        self.told += int((features[:, 0] > 0).sum())
        return Knows()(features)


@pytest.mark.parametrize("least", [1, 2, 4])
def test_decisions_begin_with_the_shortest_round_and_only_they_cost(least):
    trace, prices = markov(1, 60, seed=2)[0], Prices({1: 1.0, 9: 1.0}, drafter=0.1, stop=0.02)
    policy = CostAware(Counting(), 0.12, rate=1.5, first=0.9, max_length=6, min_length=least)
    found = replay([trace], policy)
    drafted = found.rounds[:, 1]
    room = found.rounds[:, 3]
    assert ((drafted == 0) | (drafted >= np.minimum(least, room))).all()
    described = np.maximum(drafted - least + 1, 0)
    unasked = drafted == 6  # the last draft that may be leads to no question
    assert policy.classifier.told == described.sum() - unasked.sum()
    assert found.seconds(prices) == pytest.approx(len(drafted) + 0.1 * drafted.sum() + 0.02 * described.sum())


def test_a_static_length_is_the_cost_aware_rule_that_never_asks():
    traces, prices = markov(20, 60, seed=3), Prices({1: 1.0, 9: 1.0}, drafter=0.1, stop=0.02)
    policy = CostAware(Knows(), 0.12, rate=1.0, first=1.0, max_length=3, min_length=3)
    policy.on_verified = lambda *counts: None
    static, lazy = replay(traces, Static(3)), replay(traces, policy)
    assert static.rounds.tolist() == lazy.rounds.tolist()
    assert lazy.seconds(prices) == pytest.approx(static.seconds(prices) + 0.02 * (static.rounds[:, 1] >= 3).sum())


@pytest.mark.parametrize("c", [0.05, 0.15])
def test_the_cost_aware_rule_beats_every_static_length(c):
    traces, prices = markov(48, 80, seed=1), Prices({1: 1.0, 40: 1.0}, drafter=c)
    rates = fixed_point(traces, Knows(), c, first=0.62, longest=20)
    assert abs(rates[-1] - rates[-2]) < 0.01 * rates[-1]
    policy = CostAware(Knows(), c, rates[-1], first=0.62, max_length=20)
    length, speed = best_static(traces, prices, longest=10)
    gain, low, high = paired_gain(traces, policy, Static(length), prices)
    assert low < gain < high
    assert gain > 0.05
    assert low > 0
    assert replay(traces, policy).speed(prices) == pytest.approx(speed * (1 + gain))


def test_a_drafter_that_does_not_pay_is_found_out():
    """Drafts at 0.4 target forwards each, one in twenty accepted: rounds that draft reach 1.05 / 1.4, and texts begin without."""
    traces, prices = markov(24, 120, seed=4, chances=(0.05, 0.05, 0.05)), Prices({1: 1.0, 40: 1.0}, drafter=0.4)
    rates = fixed_point(traces, Knows(), 0.4, first=0.05, longest=20)
    assert rates[0] == 1.0
    assert rates[-1] < 1
    idle = replay(traces, CostAware(Knows(), 0.4, rates[-1], first=0.05, max_length=20))
    assert idle.speed(prices) > 0.98
    assert idle.speed(prices) > replay(traces, Static(1)).speed(prices)


def test_the_output_order_is_the_classifiers():
    assert (ACCEPTED, NEXT) == (0, 1)
