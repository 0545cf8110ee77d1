"""Policies with a classifier: its arithmetic, the cumulative rules, the closed form of independent drafts, the off switch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from drafters.stop.catalog import build
from drafters.stop.classifier import ACCEPTED, Classifier, parameter
from drafters.stop.features import NAMES
from drafters.stop.policies.cost_aware import SHORTEST_WAIT, CostAware
from drafters.stop.policies.disco import Disco
from drafters.stop.policies.specdecpp import SpecDecPP
from drafters.stop.policy import StopError

ONE = torch.zeros(1, dtype=torch.int64)
SOME = torch.zeros(1, len(NAMES))


class Says:
    """A classifier that says the same of every draft."""

    def __init__(self, accepted, following=None):
        self.answer = torch.tensor([[accepted, accepted if following is None else following]])

    def __call__(self, features):
        return self.answer.expand(len(features), 2)


def drafts(policy, most=60):
    """How many tokens a round would draft."""
    go, drafted = bool(policy.should_continue(None, ONE)[0]), 0
    while go and drafted < most:
        drafted += 1
        go = bool(policy.should_continue(SOME, ONE + drafted)[0])
    return drafted


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
def test_folding_changes_nothing(make_trained, activation):
    slopes = {"slope.accepted": 1.7, "shift.accepted": -0.3, "slope.next": 0.6, "shift.next": 0.2}
    trained = make_trained(**slopes)
    trained.config["activation"] = activation
    features = torch.randn(50, len(NAMES), generator=torch.Generator().manual_seed(1))
    t = trained.tensors
    activate = {"relu": F.relu, "gelu": F.gelu, "tanh": torch.tanh}[activation]
    hidden = activate(F.linear((features - t["mean"]) / t["scale"], t["layers.0.weight"], t["layers.0.bias"]))
    logits = F.linear(hidden, t["layers.1.weight"], t["layers.1.bias"])
    expected = (logits * torch.tensor([1.7, 0.6]) + torch.tensor([-0.3, 0.2])).sigmoid()
    assert torch.allclose(Classifier(trained)(features), expected, atol=1e-5)


def test_other_features_are_refused(make_trained):
    trained = make_trained()
    trained.config["features"][0] = "log_top0"
    with pytest.raises(StopError, match=r"reads log_top0, .*train it again"):
        Classifier(trained)


def test_numbers_are_those_of_the_nearest_temperature(make_trained):
    trained = make_trained(**{"rate.0": 2.0, "rate.0.7": 1.5, "rate.1": 1.2})
    assert [parameter(trained, "rate", t) for t in (0.0, 0.3, 0.75, 5.0)] == [2.0, 2.0, 1.5, 1.2]
    with pytest.raises(StopError, match="expected parameters first"):
        parameter(trained, "first", 1.0)


def test_disco_looks_at_one_draft_specdecpp_at_all():
    assert drafts(Disco(Says(0.8), threshold=0.7, max_length=9)) == 60  # the engine ends it at max_length
    assert drafts(Disco(Says(0.6), threshold=0.7)) == 1
    # 1 - .8^k <= .5 for k <= 3
    assert drafts(SpecDecPP(Says(0.8), threshold=0.5)) == 4


@pytest.mark.parametrize("a", [0.3, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("c", [0.05, 0.15, 0.4])
def test_independent_drafts_give_the_closed_form(a, c):
    """k* maximises (1 - a^(k+1)) / ((1 - a)(1 + c k)) (Leviathan et al. 2023); the fixed point finds it without a search."""
    speeds = [(1 - a ** (k + 1)) / ((1 - a) * (1 + c * k)) for k in range(200)]
    best = max(range(200), key=speeds.__getitem__)
    rate = 1.0
    for _ in range(20):
        policy = CostAware(Says(a), c=c, rate=rate, first=a)
        policy.reset(ONE)
        k = drafts(policy, most=199)
        if not k:
            break  # rounds that draft do not pay
        rate = (1 - a ** (k + 1)) / ((1 - a) * (1 + c * k))
    assert k == best
    assert max(rate, 1.0) == pytest.approx(speeds[best])
    if k:  # largest k with a^k >= rate * c
        assert a**k >= rate * c > a ** (k + 1)


def test_the_first_drafts_of_a_round_are_not_asked_about():
    """After three drafts that count as accepted with 0.8 each: goes on while .8^2 .9^(n - 2) .9 >= .3."""
    policy = CostAware(Says(0.9), c=0.3, rate=1.0, first=0.8, min_length=3)
    policy.reset(ONE)
    assert bool(policy.should_continue(None, ONE)[0])
    lengths = [n for n in range(3, 30) if 0.8**2 * 0.9 ** (n - 2) * 0.9 >= 0.3]
    for drafted in range(3, 30):
        assert bool(policy.should_continue(SOME, ONE + drafted)[0]) == (drafted in lengths), drafted
    assert 5 < lengths[-1] < 15


def test_a_round_begins_where_rounds_that_draft_pay():
    for rate, begins in [(0.99, False), (1.0, True), (1.5, True)]:
        policy = CostAware(Says(0.9), c=0.3, rate=rate, first=0.5)
        policy.reset(ONE)
        assert bool(policy.should_continue(None, ONE)[0]) == begins, rate


class Runs:
    """Knows whether the round's drafts are the good ones: three in ten, then five in a row are accepted."""

    def __init__(self, good):
        self.good = good

    def __call__(self, features):
        return torch.full((len(features), 2), 1.0 if self.good else 0.0)


def test_the_first_draft_is_worth_what_may_follow_it():
    """Rounds that draft reach (1 + .3 * 5) / (1 + .2 (.3 * 5 + .7)) = 1.74, though a first draft's .3 is less than 1.74 * .2."""
    rng, classifier = np.random.default_rng(0), Runs(True)
    policy, tokens, time = CostAware(classifier, c=0.2, rate=1.74, first=0.3, max_length=5), 0, 0.0
    policy.reset(ONE)
    for _ in range(200):
        classifier.good = rng.random() < 0.3
        drafted = drafts(policy, most=5)
        accepted = drafted if classifier.good else 0
        policy.on_verified(ONE + accepted, ONE + drafted, ONE)
        tokens, time = tokens + accepted + 1, time + 1 + 0.2 * drafted
    assert tokens / time == pytest.approx(2.5 / 1.44, rel=0.2)  # 4 sd of 200 rounds; never drafting: 1


@pytest.mark.parametrize(("first", "rounds"), [(0.5, 10), (0.7, 6), (0.99, 3), (0.0, None)])
def test_rounds_in_vain_end_drafting(first, rounds):
    """(1 - first)^rounds < 1e-3: a text like those of training has so many in a row once in a thousand."""
    policy = CostAware(Says(0.9), c=0.01, rate=4.0, first=first)
    policy.reset(ONE)
    began = 0
    while began < 40 and policy.should_continue(None, ONE)[0]:
        policy.on_verified(ONE, ONE + 1, ONE)
        began += 1
    assert began == (rounds or 40)


@pytest.mark.parametrize("least", [0, 6])
def test_a_shortest_round_that_cannot_be_is_refused(least):
    with pytest.raises(
        ValueError, match=f"min_length must be >= 1 and stop.max_length at least that, got {least} and 5"
    ):
        CostAware(Says(0.9), c=0.1, max_length=5, min_length=least)


def test_a_package_without_a_shortest_round_asks_after_every_draft(make_trained):
    numbers = {"c.1": 0.2, "rate.1": 1.5, "first.1": 0.7}
    assert build("cost_aware", trained=make_trained(**numbers)).min_length == 1
    assert build("cost_aware", trained=make_trained(**numbers, **{"min_length.1": 3.0})).min_length == 3
    assert (
        build("cost_aware", {"min_length": 2}, trained=make_trained(**numbers, **{"min_length.1": 3.0})).min_length == 2
    )
    short = build("cost_aware", {"max_length": 2}, trained=make_trained(**numbers, **{"min_length.1": 3.0}))
    assert short.min_length == 2


@pytest.mark.parametrize("c", [1.0, 3.0])
def test_a_drafter_that_is_not_faster_is_never_called(c):
    policy = CostAware(Says(0.99), c=c, rate=1.0, first=0.9)
    policy.reset(ONE)
    for _ in range(3000):
        assert drafts(policy) == 0
        policy.on_verified(ONE, ONE, ONE)


@pytest.mark.parametrize(
    ("c", "rate", "first"), [(0.15, 1.7, 0.7), (0.23, 1.7, 0.72), (0.23, 1.37, 0.61), (0.25, 1.2, 0.7)]
)
def test_text_that_cannot_be_drafted_costs_two_percent_at_most(c, rate, first):
    """128 tokens as in a request, drafts never accepted: drafting ends, and is tried ever more rarely."""
    policy = CostAware(Says(0.3), c=c, rate=rate, first=first)
    policy.reset(ONE)
    spent = {}
    for token in range(1, 4097):
        drafted = min(drafts(policy), 20)
        policy.on_verified(ONE, ONE + drafted, ONE)
        spent[token] = spent.get(token - 1, 0) + c * drafted
    assert spent[128] / 128 < 0.02
    assert (spent[4096] - spent[128]) / 3968 < 0.001


def test_an_accepted_trial_brings_drafting_back():
    policy = CostAware(Says(0.9), c=0.15, rate=1.0, first=0.7)
    policy.reset(ONE)
    while drafts(policy):
        policy.on_verified(ONE, ONE + 1, ONE)
    assert not drafts(policy)
    for _ in range(int(SHORTEST_WAIT)):
        policy.on_verified(ONE, ONE, ONE)
    for _ in range(60):
        drafted = drafts(policy, most=5)
        policy.on_verified(ONE + drafted, ONE + drafted, ONE)
    assert all(drafts(policy) for _ in range(3))


def test_rows_are_apart():
    policy = CostAware(Says(0.5), c=0.3, rate=1.0, first=0.5)
    policy.reset(torch.arange(2))
    for _ in range(12):
        policy.on_verified(torch.tensor([0]), torch.tensor([1]), torch.tensor([1]))
    assert policy.should_continue(None, torch.zeros(2, dtype=torch.int64)).tolist() == [True, False]
    policy.reset(torch.tensor([1]))
    assert policy.should_continue(None, torch.zeros(2, dtype=torch.int64)).tolist() == [True, True]


def test_accepted_is_the_first_output():
    assert Says(0.1, 0.9)(SOME)[0, ACCEPTED] == pytest.approx(0.1)
