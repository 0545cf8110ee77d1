"""Draws without replacement as arrivals: token i comes at an exponential time of rate q_i, the first k are the drafts.

All drafts lie in H if and only if k tokens of H arrive before the first from outside. With c = q(outside) and N(t) the
number of H's tokens that have arrived by t, a sum of independent Bernoulli(1 - exp(-q_i t)):
    Pr(not all in H) = int c exp(-c t) Pr(N(t) < k) dt.
The trapezoidal rule in log t converges doubly exponentially here, all terms are positive, and one sweep over the tokens
gives every prefix H.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

STEP = 0.2  # of log t; the rule's error is about exp(-pi^2 / STEP) = 4e-22
EARLIEST = 1e-14  # what happens before this time changes a probability by less than 1e-14
LATEST = 45.0  # in mean waiting times: exp(-45) = 3e-20
BLOCK = 128  # tokens at a time: their arrays of probabilities stay in the cache


def time_nodes(latest: float) -> tuple[Vector, Vector]:
    """Nodes t and weights w (M,) such that the sum of w f(t) is the integral of f over (0, inf)."""
    t = np.exp(np.arange(np.log(EARLIEST), np.log(latest) + STEP, STEP))
    return t, STEP * t


def all_inside(q: Vector, num_drafts: int) -> Iterator[Vector]:
    """Pr(all drafts lie in q[: n + 1]) for n = 0, 1, ...: block after block, so that the caller may stop early.

    Args:
        q: law (N,) of the tokens in the order of the prefixes, all positive, none so small that LATEST / q overflows.
        num_drafts: k draws without replacement; all N tokens if N is smaller.
    """
    k = min(num_drafts, len(q))
    outside = np.concatenate([np.cumsum(q[:0:-1])[::-1], [0.0]])  # not 1 - cumsum: exact where little is left
    t, weight = time_nodes(_latest(q, outside, k))
    arrived = np.zeros((k, len(t)))  # Pr(exactly r tokens of the prefix have arrived by t), r < k
    arrived[0] = 1.0
    for start in range(0, len(q), BLOCK):
        rates = q[start : start + BLOCK, None] * t
        still_out, in_by_now = np.exp(-rates), -np.expm1(-rates)
        fewer = np.empty_like(rates)  # Pr(N(t) < k)
        for n in range(len(rates)):
            entering = arrived[:-1] * in_by_now[n]
            arrived *= still_out[n]
            arrived[1:] += entering
            arrived.sum(0, out=fewer[n])
        c = outside[start : start + BLOCK, None]
        inside = 1.0 - (c * np.exp(-c * t) * fewer) @ weight
        inside[: max(0, k - 1 - start)] = 0.0  # fewer than k tokens hold no k drafts
        yield np.clip(inside, 0.0, 1.0)


def _latest(q: Vector, outside: Vector, k: int) -> float:
    """A time after which no prefix's integrand matters: something came from outside, or k tokens from inside.

    A prefix is decided after LATEST / max(c, its k-th largest q). c falls and the k-th largest q grows with the prefix,
    so the longest wait is where they cross.
    """
    low, high = k - 1, len(q) - 1  # the whole vocabulary has c = 0: crossed
    while low < high:
        middle = (low + high) // 2
        if _kth_largest(q[: middle + 1], k) >= outside[middle]:
            high = middle
        else:
            low = middle + 1
    slowest = _kth_largest(q[: low + 1], k)
    if low > k - 1:
        slowest = min(slowest, outside[low - 1])
    return LATEST / slowest


def _kth_largest(values: Vector, k: int) -> float:
    return float(np.partition(values, len(values) - k)[len(values) - k])
