"""Acceptance by enumeration on small vocabularies: references for the formulas and for the engine."""

from __future__ import annotations

import torch
from torch import Tensor

from eval.acceptance.optimal import CHUNK, by_rows, check_drafts, each_row, law_pair, top_tokens
from eval.acceptance.verifier_formulas import law_without, residual


def acceptance_deterministic(p: Tensor, q: Tensor, num_drafts: int) -> Tensor:
    """The num_drafts most likely tokens of q as drafts (EAGLE-2): p of them. Lowest id first among equals.

    Distributions (..., V) -> float64 (...,). Raises ValueError as `optimal_acceptance` does.
    """
    check_drafts(num_drafts)
    p, q = law_pair(p, q)
    return p.masked_fill(~top_tokens(q, num_drafts), 0.0).sum(-1)


def acceptance_rrs_without_replacement(p: Tensor, q: Tensor, num_drafts: int) -> Tensor:
    """Recursive rejection sampling of drafts without replacement (RSD, Jeon et al. 2024), over all draw sequences.

    Distributions (..., V) -> float64 (...,). V^num_drafts numbers per row: for small vocabularies.

    Raises:
        ValueError: as `optimal_acceptance`, or too many sequences: use `estimate_rrs_without_replacement`.
    """
    check_drafts(num_drafts)
    p, q = law_pair(p, q)
    if q.shape[-1] ** num_drafts > CHUNK:
        raise ValueError(
            f"{q.shape[-1]} tokens have more sequences of {num_drafts} draws than can be summed (at most {CHUNK}): "
            "use estimate_rrs_without_replacement"
        )
    return by_rows(lambda a, b: each_row(lambda p, q: _rrs_row(p, q, num_drafts), a, b), p, q)


def expected_accepted(acceptance: Tensor, depth: int) -> Tensor:
    """Accepted tokens of a chain or an evenly branching tree of `depth` levels: sum of acceptance^l, l = 1..depth.

    For distributions that are the same at every position and verifiers that decide level by level; the bonus token not
    included.
    """
    return sum((acceptance**level for level in range(1, depth + 1)), torch.zeros_like(acceptance))


def expected_accepted_block(p: Tensor, q: Tensor, depth: int) -> Tensor:
    """Accepted tokens of block verification (Sun et al. 2025, arXiv 2403.10444), same distributions at every position.

    sum_l E_q[P_l] with P_l = min(1, P_(l-1) p(x_l) / q(x_l)), over all V^depth chains: one row (V,), small V.

    Returns:
        float64 (). Raises ValueError: not one row, no distribution, or too many drafts.
    """
    p, q = law_pair(p, q)
    if p.dim() != 1 or len(p) ** depth > CHUNK:
        raise ValueError(f"expected one law (V,) with at most {CHUNK} drafts V^depth, got {tuple(p.shape)}^{depth}")
    p, q = p[q > 0], q[q > 0]
    prefix, weight, total = p.new_ones(1), p.new_ones(1), p.new_zeros(())
    for _ in range(depth):
        prefix = (prefix.unsqueeze(-1) * (p / q)).clamp(max=1.0).flatten()
        weight = (weight.unsqueeze(-1) * q).flatten()
        total = total + prefix @ weight
    return total


def _rrs_row(p: Tensor, q: Tensor, num_drafts: int) -> Tensor:
    """All sequences of draws of one row (V,) at once: `weight` is the probability to draw one and reject all of it."""
    vocabulary = len(p)
    target, law, weight = p.unsqueeze(0), q.unsqueeze(0), p.new_ones(1)  # (n, V), (n, V), (n,)
    accepted = p.new_zeros(())
    for draft in range(num_drafts):
        accepted = accepted + weight @ torch.minimum(target, law).sum(-1)
        if draft == num_drafts - 1:
            break
        weight = (weight.unsqueeze(-1) * (law - target).clamp(min=0.0)).flatten()
        target = residual(target, law).repeat_interleave(vocabulary, 0)
        drawn = torch.arange(vocabulary, device=p.device).repeat(len(law)).unsqueeze(-1)
        law = law_without(law.repeat_interleave(vocabulary, 0), drawn)
        alive = weight > 0
        target, law, weight = target[alive], law[alive], weight[alive]
    return accepted
