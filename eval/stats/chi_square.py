"""Pearson's test of sampled sequences against a known law, with its power stated beforehand.

A bias of total variation TV has non-centrality of at least 4 N TV^2 whatever its shape, so the number of samples follows
from the TV that must not be missed, and no seed has to be chosen: a correct sampler fails with probability alpha.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, stats

ALPHA = 1e-6  # false alarm of one assertion, under any seed
POWER = 0.999
SMALLEST_CELL = 5.0  # expected count


def pooled(counts: np.ndarray, law: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Observed and expected counts, the rarest cells pooled until every cell expects SMALLEST_CELL.

    The rule reads the law only, never the sample. `counts` and `law` are (cells,), the law sums to one. Cells without
    probability are dropped. Raises ValueError if one of them was hit, and if fewer than two cells are left.
    """
    if counts[law == 0].any():
        raise ValueError(f"impossible outcomes were drawn: cells {np.flatnonzero((law == 0) & (counts > 0)).tolist()}.")
    order = np.argsort(law, kind="stable")
    order = order[law[order] > 0]
    observed, expected = counts[order].astype(float), law[order] * counts.sum()
    first = int(np.searchsorted(np.cumsum(expected), SMALLEST_CELL)) + 1  # the cells pooled into one
    while first < len(expected) and expected[first] < SMALLEST_CELL:
        first += 1
    if len(expected) - first < 1:
        raise ValueError(
            f"a test needs two cells that expect {SMALLEST_CELL:g} samples; draw more than {counts.sum()}."
        )
    pool = [observed[:first].sum()], [expected[:first].sum()]
    return np.concatenate([pool[0], observed[first:]]), np.concatenate([pool[1], expected[first:]])


def p_value(counts: np.ndarray, law: np.ndarray) -> float:
    """Probability of a deviation at least this large if the samples came from `law`; see `pooled` for shapes."""
    observed, expected = pooled(counts, law)
    return float(stats.chisquare(observed, expected * (observed.sum() / expected.sum())).pvalue)


def noncentrality(cells: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """The non-centrality at which a test of this many cells rejects with probability `power`."""
    critical = stats.chi2.isf(alpha, cells - 1)
    return float(optimize.brentq(lambda x: stats.ncx2.sf(critical, cells - 1, x) - power, 1e-6, 1e5))


def samples_needed(cells: int, total_variation: float, alpha: float = ALPHA, power: float = POWER) -> int:
    """N such that no bias of this total variation escapes, whatever its shape."""
    return math.ceil(noncentrality(cells, alpha, power) / (4 * total_variation**2))


def detectable(samples: int, cells: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """The total variation that N samples cannot miss."""
    return math.sqrt(noncentrality(cells, alpha, power) / (4 * samples))
