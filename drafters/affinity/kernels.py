"""The paper's redistribution kernel (arXiv 2506.03206): row-stochastic, from the covariance of the target's distributions.

M_ij = exp(Omega_ij / tau) / sum_k exp(Omega_ik / tau), Omega the centred covariance of the target's probability vectors
over contexts. O(D V): for vocabularies where it fits.
"""

from __future__ import annotations

from torch import Tensor


def covariance(laws: Tensor, rows: Tensor) -> Tensor:
    """Omega's rows for the tokens `rows` (D,), over contexts: (K, V) distributions -> (D, V). Each row sums to zero."""
    centred = laws - laws.mean(0)
    return centred[:, rows].T @ centred / len(laws)


def softmax_kernel(omega: Tensor, tau: float) -> Tensor:
    """M (D, V), rows sum to one. Raises ValueError unless tau > 0."""
    if not tau > 0:
        raise ValueError(f"tau must be above 0, got {tau}")
    return (omega / tau).softmax(-1)
