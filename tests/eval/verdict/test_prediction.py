"""Predicted speed: closed forms, planted overheads, prices that are off, and the forwards that the engine really makes."""

import dataclasses

import numpy as np
import pytest
import torch

from drafters.engine.decode import autoregressive, speculative
from drafters.engine.limits import Limits
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import build
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import identity
from eval.costs.forwards import Costs, Timing
from eval.expectation.expected_rounds import Followed, expected_rounds
from eval.lossless.toys.table_models import Table, TableModel, TablePair
from eval.run.records import AUTOREGRESSIVE, SPECULATIVE, Configuration, record
from eval.verdict.prediction import PLAIN, Overheads, Timed, Work, fit_overheads, overrun, predict, timed, work

FREE = Overheads()


def flat(c: float, steeper: float = 0.0) -> Costs:
    """t(n) = 1 + steeper (n - 1), d = c."""
    target = {n: Timing(1 + steeper * (n - 1), 1, 1, 1) for n in range(1, 20)}
    return Costs(
        target, {"package": Timing(c, c, c, 1)}, 1, {"package": {n: Timing(c * (1 + n / 4), c, c, 1) for n in (3, 6)}}
    )


@pytest.mark.parametrize("a", [0.2, 0.8])
@pytest.mark.parametrize("length", [1, 3, 6])
@pytest.mark.parametrize("c", [0.05, 0.5])
def test_leviathans_speedup(a, length, c):
    n = 20_000
    text = Followed(np.tile(a ** np.arange(length + 1), (n, 1)), np.ones(n, bool), n)
    found = predict(
        expected_rounds([text], length),
        "package",
        "standard",
        work(build("standard", identity(2)), length),
        flat(c),
        FREE,
    )
    closed = (1 - a ** (length + 1)) / ((1 - a) * (length * c + 1))  # arXiv 2211.17192, theorem 3.8
    assert found.ratio == pytest.approx(closed, rel=2 * (length + 1) / n)  # the last rounds are cut


def test_rows_of_a_request_share_its_price():
    text = Followed(np.ones((6, 3)), np.ones(6, bool), 6)
    rounds = expected_rounds([text], 2)
    own, extra = work(build("standard", identity(2)), 2), Overheads(2.0, 0.25, {PLAIN: 0.5, "standard": 1.0})
    # two rounds of two drafts; plain decoding: six of none
    assert predict(rounds, "package", "standard", own, flat(0.1), extra).ratio == pytest.approx(
        (2 + 6 * 1.5) / (2 + 2 * (2 * 0.1 + 1 + 1.0 + 2 * 0.25))
    )
    assert extra.of_round("another") == 1.0
    assert Overheads(round={PLAIN: 0.5}).of_round("another") == 0.5


RUNS = [("", 30, 0), ("", 44, 0), ("tli", 12, 36), ("tli", 19, 57), ("tli", 25, 75), ("rrs", 9, 27), ("rrs", 14, 28)]


def planted(extra: Overheads, off: float = 1.0) -> list[Timed]:
    return [
        Timed(label, extra.request + (forwards := rounds * 1.0 + drafts * 0.2) + drafts * extra.draft + rounds * extra.round[label],
              off * forwards, rounds, drafts)
        for label, rounds, drafts in RUNS
    ]  # fmt: skip


def test_planted_overheads_are_found():
    extra = Overheads(0.7, 0.03, {"": 0.05, "tli": 0.2, "rrs": 0.4})
    found = fit_overheads(planted(extra))
    assert (found.request, found.draft) == pytest.approx((0.7, 0.03))
    assert found.round == pytest.approx(extra.round)
    assert overrun(planted(extra)) < 1
    assert fit_overheads([]) == FREE


@pytest.mark.parametrize("off", [2.0, 0.5])
def test_prices_that_are_off_by_two(off):
    """Twice too high they cannot be true. Half as high, what they lack is found as overhead: the prediction is right all the same."""
    extra = Overheads(0.0, 0.0, {"": 0.02, "tli": 0.02, "rrs": 0.02})
    runs = planted(extra, off)
    if off == 2.0:
        assert overrun(runs) > 1.9
        assert overrun(planted(extra)) < 1
        return
    found = fit_overheads(runs)
    for run in runs:
        again = run.forwards + found.request + found.draft * run.drafts + found.round[run.label] * run.rounds
        assert again == pytest.approx(run.seconds, rel=1e-6)


class Counted(TableModel):
    """Notes how many tokens each forward takes."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.sizes: list[int] = []

    def extend(self, tokens, *rest, **named):
        self.sizes.append(tokens.shape[1])
        return super().extend(tokens, *rest, **named)


@dataclasses.dataclass(frozen=True)
class CountedPair(TablePair):
    models: list = dataclasses.field(default_factory=list)

    def open_target(self, rows, capacity):
        self.models.append(Counted(self.target, rows, capacity))
        return self.models[-1]

    def open_drafter(self, rows, capacity):
        self.models.append(Counted(self.drafter, rows, capacity))
        return self.models[-1]


@pytest.mark.parametrize(("name", "options"), [
    ("standard", {}), ("race", {}), ("rrs", {"branching": [3, 2, 1]}), ("traversal", {"branching": [2, 2]}),
    ("race_tree", {"nodes": 9}), ("race_tree", {"branching": "batch"}),
])  # fmt: skip
def test_the_engine_makes_the_forwards_that_are_priced(name, options):
    target, other = Table.random(20, 0), Table.random(20, 1, scale=0.5)
    pair = CountedPair(target, Table(target.logits + other.logits), identity(20))
    sampler = build(name, pair.vocab, options)
    own = work(sampler, 4)
    stop = Static(max(4, len(own.nodes) - 1))
    decoded = speculative(
        pair,
        sampler,
        stop,
        [torch.tensor([1, 2, 3])],
        KeyedCoins(0, torch.tensor([0])),
        Limits(40, Sampling(1.0)),
    )
    drafter, verifier = pair.models
    made, checked = iter(drafter.sizes[1:]), iter(verifier.sizes[1:])  # the first reads the prompt
    for drafted, _, _ in decoded.rounds[0]:
        assert next(checked) == drafted + 1
        k = own.nodes.index(drafted)
        sizes = [next(made) for _ in own.drafts[k]]
        assert sizes[1:] == list(own.drafts[k])[1:]
        assert all(
            size in (1, 2) for size in sizes[:1]
        )  # the last draft and the round's own token, where all were accepted
    assert next(made, None) is None
    assert next(checked, None) is None


def test_only_rounds_whose_forwards_are_known_are_fitted():
    pair = TablePair(Table.random(5, 0), Table.random(5, 1), identity(5))
    sampler, prompt = build("standard", pair.vocab), [torch.tensor([1])]
    keys = [
        Configuration(None, None, AUTOREGRESSIVE, None, 1.0, None),
        Configuration("package", "standard", SPECULATIVE, "static", 1.0, 5, "standard"),
    ]
    coins, limits = KeyedCoins(0, torch.tensor([0])), Limits(9, Sampling(1.0))
    runs = [autoregressive(pair, prompt, coins, limits), speculative(pair, sampler, Static(3), prompt, coins, limits)]
    records = [
        record(key, run, prompt="a", prompt_tokens=1, repeat=0, seconds=5.0, greedy=None)
        for key, run in zip(keys, runs, strict=True)
    ]
    costs, own = flat(0.25, 0.1), work(sampler, 3)
    plain, found = timed(records, {keys[1]: own}, costs)
    assert plain == Timed(PLAIN, 5.0, 9.0, 9, 0)
    by_hand = sum(drafted * 0.25 + 1 + 0.1 * drafted for drafted, _, _ in runs[1].rounds[0])
    assert (found.label, found.forwards) == ("standard", pytest.approx(by_hand))
    assert found.drafts == sum(drafted for drafted, _, _ in runs[1].rounds[0])
    assert [item.label for item in timed(records, {}, costs)] == [PLAIN]
    cut = Work(own.drafts[:2], own.nodes[:2])  # rounds of more drafts are not known
    assert [item.label for item in timed(records, {keys[1]: cut}, costs)] == [PLAIN]
