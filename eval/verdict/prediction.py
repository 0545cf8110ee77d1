"""Predicted speed: expected rounds times measured prices, with what the engine adds around its forwards.

Speed-up over plain decoding as in Leviathan et al. 2023 (arXiv 2211.17192, theorem 3.8), with the measured t(n) and d(n) in
place of constants, and with seconds per request, round and draft that are fitted to timed runs on the same machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from drafters.samplers.draft import Sampler, Tree
from eval.costs.forwards import Costs
from eval.expectation.expected_rounds import Rounds
from eval.run.records import AUTOREGRESSIVE, SPECULATIVE, Record
from eval.stats.bootstrap import interval

Array = NDArray[np.float64]
PLAIN = ""  # label of plain decoding among the rounds' overheads


@dataclass(frozen=True)
class Work:
    """The forwards of a round by how much it drafted: `drafts[k]` tokens of each drafter forward, `nodes[k]` tokens verified.

    k counts drafts of a chain, levels of a tree. `decisions[k]`: seconds that a stop policy takes for such a round; empty: none.
    """

    drafts: Sequence[Sequence[int]]
    nodes: Sequence[int]
    decisions: Sequence[float] = ()


def work(sampler: Sampler | None, longest: int) -> Work:
    """The work of a sampler's rounds of at most so many drafts; of plain decoding without one."""
    if sampler is None:
        return Work([[]], [0])
    if not isinstance(sampler.shape, Tree):
        return Work([[1] * k for k in range(longest + 1)], list(range(longest + 1)))
    widths = [sum(level) for level in sampler.shape.levels][:longest]
    forwards = [1, *widths]  # a level's children come from a forward over the level above
    return Work([forwards[:k] for k in range(len(widths) + 1)], [sum(widths[:k]) for k in range(len(widths) + 1)])


@dataclass(frozen=True)
class Overheads:
    """Seconds that the engine adds to its forwards."""

    request: float = 0.0  # once per request, reading the prompt included
    draft: float = 0.0  # per drafter forward
    round: Mapping[str, float] = field(default_factory=dict)  # per target forward, by label; PLAIN: of plain decoding

    def of_round(self, label: str) -> float:
        """Seconds per round of the sampler `label`; of one that was not timed, the largest that was."""
        return self.round.get(label, max(self.round.values(), default=0.0))


@dataclass(frozen=True)
class Timed:
    """What a recorded run did, for `fit_overheads`."""

    label: str  # of the preset, PLAIN for plain decoding
    seconds: float
    forwards: float  # seconds of all its forwards, by the measured costs
    rounds: int
    drafts: int  # drafter forwards


def timed(records: Iterable[Record], works: Mapping[object, Work], costs: Costs) -> list[Timed]:
    """The records whose forwards are known: of these configurations, and of plain decoding."""
    found = []
    for item in records:
        key = item.configuration
        if key.executor == AUTOREGRESSIVE:
            found.append(Timed(PLAIN, item.seconds, item.target_forwards * costs.t, item.target_forwards, 0))
        elif key.executor == SPECULATIVE and key in works:
            own = works[key]
            sizes = {nodes: k for k, nodes in enumerate(own.nodes)}
            rounds = [(sizes[drafted], count) for drafted, _, _, count in item.rounds if drafted in sizes]
            if sum(count for _, count in rounds) < item.target_forwards:
                continue  # a draft that ended amid a level: its forwards are not known
            seconds = sum(count * forward_seconds(costs, str(key.drafter), own, k) for k, count in rounds)
            drafts = sum(count * len(own.drafts[k]) for k, count in rounds)
            label = str(key.preset or key.sampler)
            found.append(Timed(label, item.seconds, seconds, item.target_forwards, drafts))
    return found


def forward_seconds(costs: Costs, drafter: str, own: Work, k: int) -> float:
    """Seconds of the forwards of a round of k drafts or levels, and of the decisions that made it as long."""
    decided = own.decisions[k] if own.decisions else 0.0
    return sum(costs.draft(drafter, n) for n in own.drafts[k]) + costs.verify(own.nodes[k] + 1) + decided


def fit_overheads(runs: Sequence[Timed]) -> Overheads:
    """Non-negative least squares of what the runs took beyond their forwards, each weighted by its length."""
    if not runs:
        return Overheads()
    labels = sorted({run.label for run in runs})
    columns = np.zeros((len(runs), 2 + len(labels)))
    for number, run in enumerate(runs):
        columns[number, 0], columns[number, 1] = 1.0, run.drafts
        columns[number, 2 + labels.index(run.label)] = run.rounds
    left = np.array([run.seconds - run.forwards for run in runs])
    weight = 1.0 / np.array([run.seconds for run in runs])
    found, _ = nnls(columns * weight[:, None], left * weight)
    return Overheads(float(found[0]), float(found[1]), dict(zip(labels, found[2:].tolist(), strict=True)))


@dataclass(frozen=True)
class Prediction:
    """A speed-up over plain decoding, with its 95 % interval over the texts."""

    ratio: float
    low: float | None
    high: float | None


def predict(rounds: Rounds, drafter: str, label: str, own: Work, costs: Costs, extra: Overheads) -> Prediction:
    """The speed-up of a configuration on the texts of `rounds`; both sides pay for the request."""
    per_round = np.array([forward_seconds(costs, drafter, own, k) for k in range(len(own.nodes))])
    per_round += extra.of_round(label) + extra.draft * np.array([len(forwards) for forwards in own.drafts])
    seconds = extra.request + rounds.by_drafted @ per_round
    plain = extra.request + rounds.tokens * (costs.t + extra.round.get(PLAIN, 0.0))
    low, high = interval(np.divide, plain, seconds)
    return Prediction(float(plain.sum() / seconds.sum()), low, high)


def overrun(runs: Sequence[Timed]) -> float:
    """Seconds that forwards alone should take over seconds that whole runs took: above 1 no price can be true."""
    total = sum(run.seconds for run in runs)
    return sum(run.forwards for run in runs) / total if total else 0.0
