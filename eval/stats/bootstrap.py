"""95 % percentile bootstrap intervals over units (prompts, texts, requests, rounds) that are drawn again with replacement.

By numpy and not by scipy.stats.bootstrap: all that is asked for but a median is a function of sums, so that all resamples are one
product with the matrix of how often each unit comes; resamples with nothing to divide by are left out, of which scipy's makes NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]
RESAMPLES = 2000
LEVEL = 0.95


def interval(statistic: Callable[..., Vector], *samples: Vector, seed: int = 0) -> tuple[float | None, float | None]:
    """Interval of a function of sums over units; `samples` are (P,) each and are resampled together.

    (None, None) for fewer than two units, or where no resample has a finite value.
    """
    if len(samples[0]) < 2:
        return None, None
    weight = _weights(len(samples[0]), seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _percentiles(statistic(*(weight @ sample for sample in samples)))


def estimate(statistic: Callable[..., Vector], *samples: Vector, seed: int = 0) -> tuple[float, float, float]:
    """A function of sums over all units with its interval, which is the value itself where there is none: (value, low, high)."""
    value = float(statistic(*(sample.sum() for sample in samples)))
    low, high = interval(statistic, *samples, seed=seed)
    return value, value if low is None else low, value if high is None else high


def interval_of_median(values: Sequence[float], seed: int = 0) -> tuple[float | None, float | None]:
    """Interval of the median of (P,) values; (None, None) for fewer than two."""
    if len(values) < 2:
        return None, None
    return _percentiles([np.median(np.repeat(values, often)) for often in _weights(len(values), seed)])


def _weights(count: int, seed: int) -> NDArray[np.int64]:
    """How often each unit comes in each resample: (R, P), every row sums to P."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES)


def _percentiles(values: ArrayLike) -> tuple[float | None, float | None]:
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return None, None
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
