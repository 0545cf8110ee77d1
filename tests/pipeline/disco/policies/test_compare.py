"""The rule that knows both laws: it is between what a policy can see and what the coins decide."""

import dataclasses

import numpy as np
import pytest
import torch

from drafters.stop.features import NAMES
from eval.stop.policy_comparison import best_static, oracle
from eval.stop.replay import Prices, Trace
from pipeline.disco.policies import compare as module
from pipeline.disco.policies.compare import informed

PRICES = Prices({1: 1.0, 2: 1.0, 5: 1.0}, drafter=0.15, stop=0.01)


def made(requests, length, seed, chances=(1.0, 0.0)):
    """Drafts that each pass with one of these chances, by turns of random lengths; what a policy sees says nothing."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(requests):
        chance = torch.tensor(np.repeat(rng.choice(chances, length), rng.integers(1, 8, length))[:length]).float()
        accepted = torch.tensor(rng.random(length)) < chance
        found.append(Trace(torch.zeros(length, len(NAMES)), accepted, chance, chance))
    return found


def test_by_hand():
    """Laws that are points: the rule sees every rejection coming, except that of a round's first draft."""
    passed = torch.tensor([1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0]).bool()
    trace = Trace(torch.zeros(12, len(NAMES)), passed, passed.float(), passed.float())
    found = informed([trace], PRICES, first=0.75, longest=20)
    assert found.rounds[:, 1:3].tolist() == [[3, 3], [3, 3], [3, 3]]
    # All rounds here have three good drafts: at least three in a round, and each round asks once.
    assert found.seconds(PRICES) == pytest.approx(3 * (1 + 3 * 0.15) + 3 * 0.01)


@pytest.mark.parametrize("chances", [(1.0, 0.0), (0.95, 0.3)])
def test_it_is_between_the_best_length_and_the_oracle(chances):
    traces = made(40, 80, 0, chances)
    low, high = best_static(traces, PRICES)[1], oracle(traces).speed(PRICES)
    assert low < informed(traces, PRICES, 0.6, 20).speed(PRICES) < high


def test_coins_are_not_known():
    """All drafts pass with one chance: there is nothing to know, and the best length is the best rule (up to its decisions' price)."""
    traces, free = made(60, 100, 1, (0.7, 0.7)), dataclasses.replace(PRICES, stop=0.0)
    assert informed(traces, free, 0.7, 20).speed(free) == pytest.approx(best_static(traces, free)[1], rel=0.02)


def test_the_next_chance_is_the_next_ones(monkeypatch):
    """Told this draft's chance in place of the next one's, the rule drafts one token too many: `by hand` would fail."""
    passed = torch.tensor([1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0]).bool()
    trace = Trace(torch.zeros(12, len(NAMES)), passed, passed.float(), passed.float())

    def planted(given):
        features = torch.zeros_like(given.features)
        features[:, 0], features[:, 1] = given.chance, given.overlap
        return dataclasses.replace(given, features=features)

    monkeypatch.setattr(module, "_told", planted)
    assert informed([trace], PRICES, first=0.75, longest=20).drafted > 9


def test_it_is_told_this_drafts_chance_and_the_next_ones_overlap():
    chance, overlap = torch.tensor([0.9, 0.1, 1.0]), torch.tensor([0.5, 0.6, 0.7])
    trace = Trace(torch.ones(3, len(NAMES)), torch.tensor([True, False, True]), chance, overlap)
    told = module.Told()(module._told(trace).features)
    torch.testing.assert_close(told, torch.tensor([[0.9, 0.6], [0.1, 0.7], [1.0, 0.0]]))
    assert module._told(trace).accepted is trace.accepted
