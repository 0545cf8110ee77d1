"""Seconds per token in the long run, where every draft is right with probability a, independently.

t, d: seconds of a target and of a drafter forward; k: drafts per verification. SI: Leviathan et al. 2023 (arXiv 2211.17192).
DSI: Timor et al. 2024 (arXiv 2405.14105), proposition 1, which is k = 1; our generalisation to k > 1 assumes enough servers and
verifications at block ends only. All take floats or numpy arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any  # float or numpy array, broadcast against each other


def tokens_per_round(a: Array, k: Array) -> Array:
    """Expected tokens of a round of SI: (1 - a^(k+1)) / (1 - a)."""
    a = np.asarray(a, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(a < 1, (1 - a ** (np.asarray(k) + 1)) / (1 - a), np.asarray(k) + 1.0)


def si(a: Array, k: Array, t: Array, d: Array) -> Array:
    """Speculative inference: drafter and target take turns."""
    return (np.asarray(k) * d + t) / tokens_per_round(a, k)


def dsi(a: Array, k: Array, t: Array, d: Array) -> Array:
    """Distributed speculative inference: (1 - a) t for the rejections, k d for every block that is accepted whole."""
    a = np.asarray(a, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        blocks = np.where(a < 1, (1 - a) * a / (1 - a ** np.asarray(k)), 1 / np.asarray(k))
    return (1 - a) * t + blocks * np.asarray(k) * d


def best_si(a: Array, t: Array, d: Array, longest: int) -> Array:
    """SI at its best lookahead from 1 to `longest`."""
    best = si(a, 1, t, d)
    for k in range(2, longest + 1):
        best = np.minimum(best, si(a, k, t, d))
    return best
