"""Expectations in numbers: acceptance, tokens per target forward, and both against a reference on the same text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.expectation.expect import Expectation
from eval.expectation.expected_rounds import Array, Rounds
from eval.run.metrics import Estimate
from eval.stats.bootstrap import interval


@dataclass(frozen=True)
class Expected:
    """What distributions let expect of a row of the report; None where nothing follows from them."""

    acceptance: Estimate | None
    acceptance_gain: Estimate | None
    tokens_per_forward: Estimate | None
    text_positions: int | None


def acceptance(found: Expectation) -> Estimate:
    """The mean chance that a round's first draft is accepted; every position counts alike."""
    total, count = _sums(found)
    return Estimate(float(total.sum() / count.sum()), *interval(np.divide, total, count))


def acceptance_gain(found: Expectation, reference: Expectation) -> Estimate:
    """The difference of two expectations on the same texts, resampled together. Raises ValueError for other texts."""
    (own, count), (base, other) = _sums(found), _sums(reference)
    if not np.array_equal(count, other):
        raise ValueError("acceptance can be compared on the same texts alone, got texts of other lengths")
    low, high = interval(lambda own, base, count: (own - base) / count, own, base, count)
    return Estimate(float((own.sum() - base.sum()) / count.sum()), low, high)


def tokens_per_forward(rounds: Rounds) -> Estimate:
    """The expected tokens per target forward, all texts together, with the interval over texts."""
    value = float(rounds.tokens.sum() / rounds.target_forwards.sum())
    return Estimate(value, *interval(np.divide, rounds.tokens, rounds.target_forwards))


def _sums(found: Expectation) -> tuple[Array, Array]:
    total = np.array([float(values.sum()) for values in found.acceptance])
    return total, np.array([float(len(values)) for values in found.acceptance])
