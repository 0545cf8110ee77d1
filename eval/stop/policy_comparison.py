"""Stop policies side by side: replayed on the same requests, and as they really ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drafters.stop.policies.static import Static
from drafters.stop.policy import StopPolicy
from eval.run.records import Record
from eval.stats.bootstrap import estimate
from eval.stop.replay import Outcome, Prices, Trace, replay

LONGEST_STATIC = 12
ORACLE = "oracle"


@dataclass(frozen=True)
class PolicyRow:
    """One policy on one suite at one temperature."""

    policy: str
    speed: float  # tokens per t(1) by measured costs, against plain decoding
    tokens_per_forward: float
    drafted_per_round: float
    wasted: float | None  # share of the drafts that did not become output; None: nothing was drafted
    early: float  # share of rounds that stopped before they had to
    gap_closed: float | None  # of the way from the best static length to the oracle; None: there is no way to go


@dataclass
class Oracle(StopPolicy):
    """Draft exactly what will be accepted (Mamou et al. 2024, section 3).

    `accepted`: per row bool (n,), whether the draft for each position since the start of generation would be accepted. At
    temperature 0 this is known from the target's own text, for any policy.
    """

    accepted: Sequence[Tensor]
    max_length: int = 1024
    _runs: Tensor = field(init=False, repr=False, compare=False)
    _place: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        width = 1 + max((len(row) for row in self.accepted), default=0)
        self._runs = torch.zeros(len(self.accepted), width, dtype=torch.int64)
        for row, taken in enumerate(self.accepted):
            for place in range(len(taken) - 1, -1, -1):
                if bool(taken[place]):
                    self._runs[row, place] = self._runs[row, place + 1] + 1
        self._place = torch.zeros(len(self.accepted), dtype=torch.int64)

    def should_continue(self, features: Tensor | None, drafted: Tensor) -> Tensor:
        """Continue up to the first draft that would be rejected; bool (B,)."""
        place = self._place.clamp(max=self._runs.shape[1] - 1)
        ahead = self._runs.gather(1, place.unsqueeze(1)).squeeze(1)
        return drafted < ahead.to(drafted.device)

    def on_verified(self, accepted: Tensor, drafted: Tensor, rows: Tensor) -> None:
        """Move each row on by the tokens that it emitted."""
        self._place[rows] += accepted + 1

    def reset(self, rows: Tensor) -> None:
        """Move the rows back to the start of generation."""
        self._place[rows] = 0


def best_static(traces: Sequence[Trace], prices: Prices, longest: int = LONGEST_STATIC) -> tuple[int, float]:
    """The constant length of the highest speed by cost, 0 to `longest`, and that speed."""
    speeds = [replay(traces, Static(length)).speed(prices) for length in range(longest + 1)]
    best = int(np.argmax(speeds))
    return best, speeds[best]


def oracle(traces: Sequence[Trace]) -> Outcome:
    """The bound: every round drafts exactly what will be accepted."""
    return replay(traces, Oracle([trace.accepted for trace in traces]))


def table(
    policies: Mapping[str, StopPolicy],
    traces: Sequence[Trace],
    prices: Prices,
    static: str,
    bounds: Mapping[str, Outcome] | None = None,
) -> list[PolicyRow]:
    """A row per policy, per further bound, and one of the oracle. `static`: the policy whose distance to the oracle is the gap."""
    outcomes = {name: replay(traces, policy) for name, policy in policies.items()} | dict(bounds or {})
    outcomes[ORACLE] = oracle(traces)
    low, high = outcomes[static].speed(prices), outcomes[ORACLE].speed(prices)
    return [_row(name, outcome, prices, low, high) for name, outcome in outcomes.items()]


def _row(name: str, outcome: Outcome, prices: Prices, low: float, high: float) -> PolicyRow:
    speed, drafted = outcome.speed(prices), outcome.drafted
    return PolicyRow(
        policy=name,
        speed=speed,
        tokens_per_forward=outcome.tokens / outcome.forwards,
        drafted_per_round=drafted / outcome.forwards,
        wasted=None if not drafted else 1 - outcome.accepted / drafted,
        early=outcome.early,
        gap_closed=None if high <= low else (speed - low) / (high - low),
    )


def paired_gain(
    traces: Sequence[Trace], one: StopPolicy, other: StopPolicy, prices: Prices, seed: int = 0
) -> tuple[float, float, float]:
    """How much faster `one` is than `other` by cost, e.g. 0.08, with its 95 % bootstrap interval over requests."""
    costs = []
    for policy in (one, other):
        outcome = replay(traces, policy)
        drafted = outcome.rounds[:, 1]
        each = prices.verify(drafted) + prices.draft(drafted, outcome.described)
        costs.append(np.bincount(outcome.rounds[:, 0], each, minlength=len(traces)).astype(np.float64))
    return estimate(lambda one, other: other / one - 1, *costs, seed=seed)


def measured(records: Sequence[Record], prices: Prices, described: Mapping[str, int | None]) -> dict[str, Any]:
    """What really ran, all records of one policy and temperature: JSON-ready.

    `described`: what `StopPolicy.asks_from` says of a policy of this name: its decisions are paid for in `speed`.
    """
    tokens, seconds = sum(record.tokens for record in records), sum(record.seconds for record in records)
    rounds = np.array([kind for record in records for kind in record.rounds], dtype=np.int64).reshape(-1, 4)
    drafted, count = rounds[:, 0], rounds[:, 3]
    name = records[0].configuration.stop
    spent = float(((prices.verify(drafted) + prices.draft(drafted, described.get(str(name)))) * count).sum())
    total = int((drafted * count).sum())
    return {
        "policy": name,
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "speed": tokens * prices.target[1] / spent,
        "tokens_per_forward": tokens / int(count.sum()),
        "drafted": total,
        "accepted": int((rounds[:, 2] * count).sum()),
        "requests": len(records),
    }
