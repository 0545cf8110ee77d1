"""Costs are measured on the engine's own models and caches, and the speed-up that they imply is Leviathan's formula."""

import pytest
import torch

from drafters.engine.transformers_pair import TransformersPair
from eval.costs.forwards import WARM_UP, Costs, Timing, interleaved, measure_costs
from eval.report.rows import prices


def timing(seconds: float) -> Timing:
    return Timing(seconds, seconds, seconds, 1)


def test_measures_every_length_and_drafter(target, drafter):
    pair = TransformersPair(target, drafter, eos=(0,))
    costs = measure_costs({"unpruned": pair, "package": pair}, torch.tensor([3, 4, 5]), range(1, 5), repeats=3)
    assert list(costs.target) == [1, 2, 3, 4]
    assert list(costs.drafters) == ["unpruned", "package"]
    assert costs.context == 96 - 4  # what the models' context leaves
    for item in (*costs.target.values(), *costs.drafters.values()):
        assert 0 < item.low <= item.median <= item.high
        assert item.runs == 3
    report = prices(costs)
    assert report.t == costs.target[1].median
    assert report.c == report.d_pruned / report.t
    assert [item.n for item in report.t_n] == [1, 2, 3, 4]


class Sleeper:
    """A forward of known length, on a clock of its own, that forgets nothing."""

    now = 0.0  # of all of them

    def __init__(self, seconds: float, log: list):
        self.seconds, self.log = seconds, log

    def run(self) -> None:
        self.log.append(self.seconds)
        Sleeper.now += self.seconds

    def undo(self) -> None:
        Sleeper.now += 3.0  # must not be timed


def test_times_the_forward_alone_in_alternating_order(monkeypatch):
    monkeypatch.setattr("eval.costs.timing.time.perf_counter", lambda: Sleeper.now)
    log: list[float] = []
    repeats: list[None] = []
    found = interleaved(
        {"a": Sleeper(1.0, log), "b": Sleeper(2.0, log)}, 5, torch.device("cpu"), lambda: repeats.append(None)
    )
    assert [found[name].median for name in "ab"] == [1.0, 2.0]
    assert log[:4] in ([1.0, 2.0, 2.0, 1.0], [2.0, 1.0, 1.0, 2.0])
    assert len(repeats) == 5 + WARM_UP


def test_speedup_is_leviathans_where_verifying_costs_one_forward():
    """Theorem 3.8 of arXiv 2211.17192: (1 - a^(g+1)) / ((1 - a)(1 + g c))."""
    a, c, g = 0.8, 0.1, 5
    costs = Costs({n: timing(1.0) for n in (1, 2, 8)}, {"package": timing(c)}, 128)
    emitted = (1 - a ** (g + 1)) / (1 - a)
    assert costs.speedup("package", emitted, g) == pytest.approx(emitted / (1 + g * c))


def test_speedup_pays_for_longer_forwards():
    costs = Costs({1: timing(1.0), 3: timing(2.0)}, {"package": timing(0.0)}, 128)
    assert costs.speedup("package", 2.0, 1.0) == pytest.approx(2 / 1.5)  # t(2) between t(1) and t(3)
    assert costs.speedup("package", 1.0, 0.0) == 1.0
