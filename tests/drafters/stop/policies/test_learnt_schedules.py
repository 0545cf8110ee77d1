"""Policies that change with what was accepted, against hand-made sequences."""

import numpy as np
import pytest
import torch

from drafters.stop.features import DRAWN, ENTROPY, NAMES
from drafters.stop.policies.adaedl import AdaEDL
from drafters.stop.policies.confidence import Confidence
from drafters.stop.policies.confidence_adaptive import AdaptiveConfidence, best_threshold
from drafters.stop.policies.heuristic import Heuristic
from drafters.stop.policies.svip import SVIP

ROW = torch.tensor([0])


def features(rows=1, **values):
    found = torch.zeros(rows, len(NAMES))
    for name, value in values.items():
        found[:, {"drawn": DRAWN, "entropy": ENTROPY}[name]] = torch.as_tensor(value)
    return found


def length(policy, row=0, rows=1):
    """How many tokens the row would draft."""
    drafted = 0
    while drafted < 50 and bool(policy.should_continue(None, torch.full((rows,), drafted))[row]):
        drafted += 1
    return drafted


def verified(policy, accepted, drafted, row=0):
    policy.on_verified(torch.tensor([accepted]), torch.tensor([drafted]), torch.tensor([row]))


def test_heuristic_goes_up_by_two_and_down_by_one():
    policy = Heuristic(length=5, max_length=8)
    policy.reset(torch.arange(2))
    seen = [length(policy, rows=2)]
    for accepted, drafted in ((5, 5), (7, 7), (3, 8), (0, 7), (0, 0)):
        verified(policy, accepted, drafted)
        seen.append(length(policy, rows=2))
    assert seen == [5, 7, 8, 7, 6, 6]  # never above max_length; a round without drafts says nothing
    assert length(policy, row=1, rows=2) == 5
    for _ in range(9):
        verified(policy, 0, 3)
    assert length(policy, rows=2) == 1


@pytest.mark.parametrize(("persist", "after"), [(True, 7), (False, 5)])
def test_persistence_is_a_choice(persist, after):
    policy = Heuristic(persist=persist)
    policy.reset(ROW)
    verified(policy, 5, 5)
    policy.reset(ROW)
    assert length(policy) == after


def test_confidence_stops_after_an_unlikely_token():
    policy = Confidence(threshold=0.4)
    assert policy.should_continue(None, torch.zeros(2, dtype=torch.int64)).all()
    got = policy.should_continue(features(2, drawn=torch.tensor([0.41, 0.39]).log()), torch.ones(2))
    assert got.tolist() == [True, False]


def test_svip_stops_above_six_tenths_of_a_nat():
    got = SVIP().should_continue(features(2, entropy=torch.tensor([0.599, 0.601])), torch.ones(2))
    assert got.tolist() == [True, False]


def test_adaedl_bound_and_threshold():
    policy = AdaEDL(threshold=0.4)
    policy.reset(ROW)
    bound = (1 - 0.4) ** 2 / 0.2  # entropy at which 1 - sqrt(0.2 H) is the threshold
    assert bool(policy.should_continue(features(entropy=bound - 0.01), ROW)[0])
    assert not bool(policy.should_continue(features(entropy=bound + 0.01), ROW)[0])
    verified(policy, 1, 5)  # rate .5 * .9 + .5 * .2 = .55 < .9: up by .01, a tenth of it at once
    assert float(policy._state.values[0, 0]) == pytest.approx(0.9 * 0.4 + 0.1 * 0.41)
    high = AdaEDL(threshold=0.4, goal=0.5)
    high.reset(ROW)
    verified(high, 4, 5)  # rate .65 >= .5, not all accepted: down
    assert float(high._state.values[0, 0]) == pytest.approx(0.9 * 0.4 + 0.1 * 0.39)
    verified(high, 5, 5)  # all accepted: as it is
    assert float(high._state.values[0, 0]) == pytest.approx(0.399)


def reference_threshold(pairs):
    """By counting over all cuts of the sorted pairs, independent of the implementation."""
    q, match = np.array([p for p, _ in pairs]), np.array([m for _, m in pairs])
    best, found = None, None
    for cut in [np.inf, *np.unique(q)[::-1]]:
        positive = q >= cut
        cost = (positive & ~match).sum() / (~match).sum() + 3 * (~positive & match).sum() / match.sum()
        if best is None or cost < best - 1e-12:
            best, found = cost, cut
    return found


def test_the_roc_threshold_is_the_cheapest_cut():
    generator = np.random.default_rng(0)
    for _ in range(50):
        q = generator.random(20).round(1)
        match = generator.random(20) < q
        if 0 < match.sum() < 20:
            pairs = list(zip(q.tolist(), match.tolist(), strict=True))
            assert best_threshold(pairs) == pytest.approx(reference_threshold(pairs))
    assert best_threshold([(0.5, True), (0.1, False)] * 2 + [(0.3, True)]) is None  # five pairs are too few
    assert best_threshold([(0.5, True)] * 9) is None


def test_drafts_behind_a_rejection_are_censored():
    policy = AdaptiveConfidence(threshold=0.0)
    policy.reset(torch.arange(2))
    policy.should_continue(None, torch.zeros(2))
    for q in (0.9, 0.8, 0.2, 0.7):
        policy.should_continue(features(2, drawn=torch.tensor([q, q]).log()), torch.ones(2))
    policy.on_verified(torch.tensor([2, 4]), torch.tensor([4, 4]), torch.tensor([0, 1]))
    assert [(round(q, 3), match) for q, match in policy._pairs[0]] == [(0.9, True), (0.8, True), (0.2, False)]
    assert [match for _, match in policy._pairs[1]] == [True] * 4
    for _ in range(3):  # one more rejected round: enough pairs, and the threshold lies between the classes
        policy.on_verified(torch.tensor([2]), torch.tensor([3]), torch.tensor([0]))
    assert float(policy._thresholds[0]) == pytest.approx(0.8)
    assert float(policy._thresholds[1]) == 0.0
    policy.reset(torch.tensor([0]))
    assert (policy._pairs[0], float(policy._thresholds[0])) == ([], 0.0)
