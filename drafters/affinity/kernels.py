"""The paper's redistribution kernel: a row-stochastic matrix from the covariance of the target's laws (arXiv 2506.03206).

M_ij = exp(Omega_ij / tau) / sum_k exp(Omega_ik / tau), Omega the centred covariance of the target's probability vectors over
contexts. O(D V): for vocabularies where it fits. `first_order_uniform` is its expansion for large tau, for tests of fidelity
only, as its leading term is the uniform law.
"""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.affinity.prior import AffinityPrior


def covariance(laws: Tensor, rows: Tensor) -> Tensor:
    """Omega's rows for the tokens `rows` (D,), over contexts: (K, V) laws -> (D, V). Each row sums to zero."""
    centred = laws - laws.mean(0)
    return centred[:, rows].T @ centred / len(laws)


def softmax_kernel(omega: Tensor, tau: float) -> Tensor:
    """M (D, V), rows sum to one. Raises ValueError unless tau > 0."""
    if not tau > 0:
        raise ValueError(f"tau must be above 0, got {tau}")
    return (omega / tau).softmax(-1)


def first_order_uniform(omega: Tensor, q: Tensor, tau: float) -> Tensor:
    """q2 = (1 + Omega^T q' / tau) / V: (..., D) -> (..., V). Sums to one exactly; non-negative where tau >= max |Omega|."""
    return (1 + (q @ omega) / tau) / omega.shape[1]


def as_prior(kernel: Tensor) -> AffinityPrior:
    """The whole matrix (D, V) as a prior: every donor gives all of its mass by its row."""
    rows, size = kernel.shape
    index = torch.arange(size, dtype=torch.int32).expand(rows, -1)
    return AffinityPrior(index, kernel.float(), torch.ones(rows))
