"""Ranks of exponential races (Kobus and Gunduz 2025, arXiv 2504.15475): the target's winner in the drafter's order.

On shared exponentials E the drafter orders the tokens by E / q, the target emits argmin E / p, and a draft of the first
k tokens is accepted if the emitted one has rank <= k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from eval.acceptance.optimal import CHUNK, by_rows, each_row, law_pair
from eval.acceptance.without_replacement import LATEST, time_nodes

EXACT_VOCABULARY = 512  # V^2 probabilities at 170 times: a second per row at this size


@dataclass(frozen=True)
class RankEstimate:
    """Sampled rank law, float64 (..., ranks), with a Wilson score interval for each probability."""

    law: Tensor
    low: Tensor
    high: Tensor


def rank_law(p: Tensor, q: Tensor, ranks: int) -> Tensor:
    """Pr(rank = r), r = 1..ranks: float64 (..., ranks), by quadrature. Cumulative sums are acceptance with r drafts.

    When i wins the target's race at time t, token j is ahead of it in the drafter's race iff E_j lies in
    (t p_j, t q_j p_i / q_i): rank - 1 is a sum of independent Bernoulli variables. A winner with q = 0 has no rank, so
    the law sums to p(q > 0) over all ranks.

    Args:
        p, q: laws (..., V), V at most 512.

    Raises:
        ValueError: p or q is no law, ranks < 1, or V is larger: use `estimate_rank_law`.
    """
    _check_ranks(ranks)
    p, q = law_pair(p, q)
    if p.shape[-1] > EXACT_VOCABULARY:
        raise ValueError(
            f"V = {p.shape[-1]} is more than {EXACT_VOCABULARY}, too many for the exact rank law: use estimate_rank_law"
        )

    def rows(p: Tensor, q: Tensor) -> Tensor:  # (R, V) x2 -> (R, ranks)
        return each_row(lambda a, b: _rank_row(a, b, ranks), p, q, ranks)

    return by_rows(rows, p, q)


def estimate_rank_law(
    p: Tensor, q: Tensor, ranks: int, samples: int, generator: torch.Generator, z: float = 1.96
) -> RankEstimate:
    """The rank law by running the races: O(V samples) per row, any V.

    Args:
        p, q: laws (..., V). samples: races per row. generator: on the laws' device. z: half-width of the interval in
            standard deviations; 1.96 covers 95 percent.
    """
    _check_ranks(ranks)
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")

    def rows(p: Tensor, q: Tensor) -> Tensor:  # (R, V) x2 -> (R, ranks)
        return each_row(lambda a, b: _count_ranks(a, b, ranks, samples, generator), p, q, ranks)

    share = by_rows(rows, *law_pair(p, q)) / samples
    middle = (share + z * z / (2 * samples)) / (1 + z * z / samples)
    half = z / (1 + z * z / samples) * (share * (1 - share) / samples + z * z / (4 * samples**2)).sqrt()
    return RankEstimate(share, (middle - half).clamp(min=0.0), (middle + half).clamp(max=1.0))


def race_speedup_ceiling(rank_law: Tensor, vocabulary: int, nodes: int) -> Tensor:
    """Most tokens per target forward (bonus token included) of any race tree: (log V + log(nodes + 1)) / H[rank].

    Holds for ranks that are independent from position to position with this law; real text can exceed it locally.

    Args:
        rank_law: (..., ranks), sums to at most 1; what is missing counts as one further rank, which can only raise the
            ceiling. vocabulary: V. nodes: drafted tokens per forward.

    Returns:
        float64 (...,); inf where the rank is certain. Raises ValueError: no such law, or vocabulary or nodes below 1.
    """
    law = rank_law.double()
    missing = 1.0 - law.sum(-1, keepdim=True)
    if bool((law < 0).any()) or not bool((missing >= -1e-9).all()):
        raise ValueError("rank_law must have no entry below 0 and sum to at most 1: give probabilities, not counts")
    if vocabulary < 1 or nodes < 1:
        raise ValueError(f"vocabulary and nodes must be at least 1, got {vocabulary} and {nodes}")
    full = torch.cat([law, missing.clamp(min=0.0)], -1)
    entropy = torch.special.xlogy(full, full).sum(-1).clamp(max=0.0).abs()  # +0, not -0, where the rank is certain
    return (math.log(vocabulary) + math.log(nodes + 1)) / entropy


def _check_ranks(ranks: int) -> None:
    if ranks < 1:
        raise ValueError(f"ranks must be at least 1, got {ranks}")


def _rank_row(p: Tensor, q: Tensor, ranks: int) -> Tensor:
    winners = (p > 0) & (q > 0)
    t_nodes, weights = time_nodes(LATEST)  # the winner's time is exponential of rate 1
    t, weight = torch.as_tensor(t_nodes).to(p), torch.as_tensor(weights * np.exp(-t_nodes)).to(p)
    # (winners, V): rate at which j, not yet arrived at t p_j, arrives before t q_j p_i / q_i; zero for i itself
    ahead = (q * (p / q)[winners].unsqueeze(-1) - p).clamp(min=0.0)
    ahead[torch.arange(len(ahead), device=p.device), winners.nonzero().squeeze(-1)] = 0.0
    before = p.new_zeros(ranks, len(ahead), len(t))  # Pr(exactly r tokens are ahead of winner i at time t)
    before[0] = 1.0
    for rate in ahead.unbind(-1):
        exponent = -rate.unsqueeze(-1) * t  # (winners, M)
        entering = before[:-1] * -torch.expm1(exponent)
        before *= exponent.exp()
        before[1:] += entering
    return (before @ weight) @ p[winners]


def _count_ranks(p: Tensor, q: Tensor, ranks: int, samples: int, generator: torch.Generator) -> Tensor:
    at_once = max(1, CHUNK // len(p))
    counts = p.new_zeros(ranks)
    for start in range(0, samples, at_once):
        times = p.new_empty(min(at_once, samples - start), len(p)).exponential_(generator=generator)
        times.clamp_(min=torch.finfo(times.dtype).tiny)  # 0 would win for a token of probability 0
        winner = (times / p).argmin(-1, keepdim=True)
        race = times / q
        place = (race < race.gather(-1, winner)).sum(-1)  # 0 for rank 1
        place = place[q[winner.squeeze(-1)] > 0]
        counts += torch.bincount(place, minlength=ranks)[:ranks]
    return counts
