"""Acceptance of the verifiers themselves, from their formulas: what their optimum (eval/acceptance/optimal.py) is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eval.acceptance.optimal import CHUNK, by_rows, check_drafts, each_row, law_pair

BISECTIONS = 60


@dataclass(frozen=True)
class MonteCarloMean:
    """A Monte Carlo mean and its standard error, float64 (...,) each."""

    mean: Tensor
    standard_error: Tensor


def acceptance_token(p: Tensor, q: Tensor) -> Tensor:
    """One draft: sum min(p, q) = 1 - TV (Leviathan et al. 2023). Distributions (..., V) -> float64 (...,)."""
    p, q = law_pair(p, q)
    return torch.minimum(p, q).sum(-1)


def acceptance_rrs_with_replacement(p: Tensor, q: Tensor, num_drafts: int) -> Tensor:
    """Recursive rejection sampling of i.i.d. drafts (SpecInfer, Miao et al. 2024), in closed form.

    Distributions (..., V) -> float64 (...,). O(V num_drafts). Raises ValueError as `optimal_acceptance` does.
    """
    check_drafts(num_drafts)
    target, q = law_pair(p, q)
    rejected = q.new_ones(q.shape[:-1])
    for _ in range(num_drafts):
        rejected = rejected * (q - target).clamp(min=0.0).sum(-1)
        target = residual(target, q)
    return 1.0 - rejected


def acceptance_kseq(p: Tensor, q: Tensor, num_drafts: int) -> tuple[Tensor, Tensor]:
    """K-SEQ of i.i.d. drafts (SpecTr, Sun et al. 2023) and its division factor rho*, the smallest that is lossless.

    With b(rho) = sum min(q, p / rho) the acceptance is 1 - (1 - b)^k, and rho* in [1, k] makes it rho* b(rho*).

    Distributions (..., V) -> (acceptance, rho*), float64 (...,) each. Raises ValueError as `optimal_acceptance` does.
    """
    check_drafts(num_drafts)
    p, q = law_pair(p, q)
    low = q.new_ones(q.shape[:-1])
    high = torch.full_like(low, num_drafts)
    for _ in range(BISECTIONS):
        rho = (low + high) / 2
        beta = torch.minimum(q, p / rho.unsqueeze(-1)).sum(-1)
        # acceptance / beta, written so that it exists at beta = 0
        too_small = sum((1 - beta) ** j for j in range(num_drafts)) > rho
        low, high = torch.where(too_small, rho, low), torch.where(too_small, high, rho)
    beta = torch.minimum(q, p / high.unsqueeze(-1)).sum(-1)
    return 1 - (1 - beta).clamp(min=0.0) ** num_drafts, high


def estimate_rrs_without_replacement(
    p: Tensor, q: Tensor, num_drafts: int, samples: int, generator: torch.Generator
) -> MonteCarloMean:
    """Recursive rejection sampling of drafts without replacement (RSD, Jeon et al. 2024), by sampling.

    Only the draws are sampled, given that all before were rejected; the rejections enter by their probability. That is
    unbiased, and exact for one draft.

    Args:
        p, q: distributions (..., V). samples: at least 2, per row. generator: on the distributions' device.
    """
    check_drafts(num_drafts)
    if samples < 2:
        raise ValueError(f"samples must be at least 2 for a standard error, got {samples}")

    def rows(p: Tensor, q: Tensor) -> Tensor:  # (R, V) x2 -> (R, 2)
        return each_row(lambda a, b: _sampled_row(a, b, num_drafts, samples, generator), p, q, 2)

    mean, error = by_rows(rows, *law_pair(p, q)).unbind(-1)
    return MonteCarloMean(mean, error)


def residual(target: Tensor, q: Tensor) -> Tensor:
    """Give norm(max(target - q, 0)); the target itself where nothing remains: reached with probability zero."""
    excess = (target - q).clamp(min=0.0)
    total = excess.sum(-1, keepdim=True)
    return torch.where(total > 0, excess / total.masked_fill(total == 0, 1.0), target)


def law_without(q: Tensor, token: Tensor) -> Tensor:
    """Give q (n, V) after `token` (n, 1) was drawn from it, renormalised; all zero when it was the last one."""
    rest = q.scatter(-1, token, 0.0)
    total = rest.sum(-1, keepdim=True)
    return rest / total.masked_fill(total == 0, 1.0)


def _sampled_row(p: Tensor, q: Tensor, num_drafts: int, samples: int, generator: torch.Generator) -> Tensor:
    """Mean and standard error (2,) for one row (V,)."""
    at_once = max(1, CHUNK // len(p))
    rejected = []
    for start in range(0, samples, at_once):
        n = min(at_once, samples - start)
        target, law, survived = p.expand(n, -1), q.expand(n, -1), p.new_ones(n)
        for draft in range(num_drafts):
            excess = (law - target).clamp(min=0.0)  # distribution of (draw and reject)
            mass = excess.sum(-1)
            # a distribution that is used up drafts nothing: nothing more is accepted
            survived = survived * torch.where(law.sum(-1) > 0, mass, 1.0)
            if draft == num_drafts - 1:
                break
            drawn = torch.where(mass.unsqueeze(-1) > 0, excess, 1.0).multinomial(1, generator=generator)
            target, law = residual(target, law), law_without(law, drawn)
        rejected.append(survived)
    values = torch.cat(rejected)
    return torch.stack([1.0 - values.mean(), values.std() / samples**0.5])
