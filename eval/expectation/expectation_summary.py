"""Expectations in numbers: acceptance, tokens per target forward, and both against a reference on the same text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eval.expectation.expect import Expectation
from eval.expectation.expected_rounds import Array, Rounds
from eval.run.metrics import interval

DEFINITIONS = {
    "acceptance": "expected: the chance that a draft at the head of a round is accepted (of a tree: that one of the root's children "
    "is), mean over text_positions positions of the target's own text; the same law gives the same number",
    "acceptance_gain": "acceptance less that of the reference (the unpruned drafter with plain rejection), on the same positions",
    "tokens_per_forward": "expected tokens per target forward with the row's draft length, on the same text",
    "predicted_speedup": "tokens_per_forward at the measured costs of forwards and what the engine was found to add to them",
}


@dataclass(frozen=True)
class Mean:
    """A mean over texts with its 95 % bootstrap interval; None for fewer than two texts."""

    value: float
    low: float | None
    high: float | None


def acceptance(found: Expectation) -> Mean:
    """See DEFINITIONS; every position counts alike."""
    total, count = _sums(found)
    return Mean(float(total.sum() / count.sum()), *interval(np.divide, total, count))


def acceptance_gain(found: Expectation, reference: Expectation) -> Mean:
    """The difference of two expectations on the same texts, resampled together. Raises ValueError for other texts."""
    (own, count), (base, other) = _sums(found), _sums(reference)
    if not np.array_equal(count, other):
        raise ValueError("acceptance can be compared on the same texts alone, got texts of other lengths")
    low, high = interval(lambda own, base, count: (own - base) / count, own, base, count)
    return Mean(float((own.sum() - base.sum()) / count.sum()), low, high)


def tokens_per_forward(rounds: Rounds) -> Mean:
    """See DEFINITIONS."""
    value = float(rounds.tokens.sum() / rounds.target_forwards.sum())
    return Mean(value, *interval(np.divide, rounds.tokens, rounds.target_forwards))


def fields(name: str, mean: Mean | None) -> dict[str, Any]:
    """{name, name_low, name_high} of a report's row."""
    values = asdict(mean) if mean is not None else dict.fromkeys(("value", "low", "high"))
    return {name: values["value"], f"{name}_low": values["low"], f"{name}_high": values["high"]}


def _sums(found: Expectation) -> tuple[Array, Array]:
    total = np.array([float(values.sum()) for values in found.acceptance])
    return total, np.array([float(len(values)) for values in found.acceptance])
