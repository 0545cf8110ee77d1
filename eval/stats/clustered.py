"""95 % intervals of a share of items that come in clusters, such as tokens in documents.

Tokens of one document are alike, so that a binomial interval over tokens would be far too short. After Korn and Graubard (1998): the
ratio's variance between clusters gives the number of independent items that would know as much, and Clopper and Pearson's interval of
so many is taken. It keeps its level with few clusters and near 0 and 1, where a bootstrap's does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta
from scipy.stats import t as student

LEVEL = 0.95


@dataclass(frozen=True)
class Share:
    """A share in [0, 1] with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % (95 %: {100 * self.low:.1f} to {100 * self.high:.1f})"

    @property
    def half(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2


def clustered_share(hits: ArrayLike, sizes: ArrayLike) -> Share | None:
    """Estimate the share of items that hit, of clusters with (D,) hits among (D,) items; None for fewer than two clusters."""
    found, total = (np.asarray(values, dtype=np.float64) for values in (hits, sizes))
    found, total = found[total > 0], total[total > 0]
    count, items = len(total), total.sum()
    if count < 2:
        return None
    share = float(found.sum() / items)
    independent = _independent(found - share * total, items, share, count)
    low, high = _clopper_pearson(share, independent)
    return Share(share, min(low, share), max(high, share))


def _independent(residuals: NDArray[np.float64], items: float, share: float, count: int) -> float:
    """Items of independent draws that would know the share as well, with the loss for a variance estimated from few clusters.

    Where all clusters have the same share, as all of them 0 or 1, each counts as one item at least: more cannot be known.
    """
    variance = count / (count - 1) * float((residuals**2).sum()) / items**2
    if variance <= 0:
        return float(count)
    effective = min(share * (1 - share) / variance, items)
    tail = (1 + LEVEL) / 2
    loss = student.ppf(tail, max(items - 1, 1)) / student.ppf(tail, count - 1)
    return float(max(effective * loss**2, 1.0))


def _clopper_pearson(share: float, items: float) -> tuple[float, float]:
    hits, tail = share * items, (1 - LEVEL) / 2
    low = 0.0 if hits <= 0 else float(beta.ppf(tail, hits, items - hits + 1))
    high = 1.0 if hits >= items else float(beta.ppf(1 - tail, hits + 1, items - hits))
    return low, high
