"""Redistributing drafter kernels: mass of kept tokens moves to the tokens that pruning took away.

arXiv 2506.03206 draws from q2 = M^T q', with q' the drafter's distribution on the shared tokens and M row-stochastic.
Any such M is lossless, because q2 is what is drawn from and verified. Here M_i = (1 - e_i) delta_i + e_i A_i: donor i
keeps 1 - e_i of its mass and gives e_i to its neighbours A_i (an AffinityPrior). `RDK` computes that to first order in
e, in O(D K) or O(V) for one row shared by all donors; `RDKExact` multiplies by the whole matrix, O(D V), as the paper
writes it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.affinity.prior import AffinityPrior
from drafters.samplers.draft import TokenProposal
from drafters.vocab.alignment import VocabMap

LARGEST_MATRIX = 2**30  # bytes of M in fp64


class RDK(TokenProposal):
    """q2 = (1 - e) q' on the shared tokens, plus A^T (e q').

    A greedy row (one token has all the mass) is left as it is: moving its mass can only lose, and T = 0 stays T = 0.
    Raises ValueError for a prior that does not fit the map.
    """

    def __init__(self, vocab: VocabMap, prior: AffinityPrior):
        self.vocabulary = vocab.to_drafter.shape[0]
        mapped = vocab.to_target >= 0
        _check(vocab, prior)
        self.support = None if bool(mapped.all()) else mapped
        self._image = vocab.to_target.clamp(min=0)
        self._index = prior.index.long()  # (D, K), or (1, K) shared by all donors
        weight = prior.weight.double()
        self._weight = weight / weight.sum(-1, keepdim=True).clamp(
            min=1e-300
        )  # stored in fp32, a row sums to one but for rounding
        self._share = torch.where(mapped, prior.share, 0.0).double()  # (D,)
        self._common: Tensor | None = None  # (V,) the one row that all donors share
        if len(self._index) == 1:
            self._common = torch.zeros(self.vocabulary, dtype=torch.float64)
            self._common.index_add_(0, self._index[0], self._weight[0])

    def lift(self, q: Tensor) -> Tensor:
        """(..., D) -> (..., V), rows sum to one."""
        if self._image.device != q.device:
            self._to(q.device)
        if self.support is not None:
            q = q * self.support
        given = q * self._share.to(q.dtype)  # (..., D)
        given.mul_(q.amax(-1, keepdim=True) < 1.0)
        return self._spread(given).index_add_(-1, self._image, q - given)

    def _spread(self, given: Tensor) -> Tensor:
        """A^T given: (..., D) -> (..., V)."""
        if self._common is not None:  # one pass over V, no scatter
            return given.sum(-1, keepdim=True) * self._common.to(given.dtype)
        law = given.new_zeros(*given.shape[:-1], self.vocabulary)
        flat = (given.unsqueeze(-1) * self._weight.to(given.dtype)).flatten(-2)  # (..., D K)
        return law.index_add_(-1, self._index.flatten(), flat)

    def _to(self, device: torch.device) -> None:
        self._image, self._index = self._image.to(device), self._index.to(device)
        self._weight, self._share = self._weight.to(device), self._share.to(device)
        self._common = None if self._common is None else self._common.to(device)
        self.support = None if self.support is None else self.support.to(device)


class RDKExact(RDK):
    """The same distribution by the paper's matrix product, for vocabularies where M (D, V) fits into memory.

    Raises ValueError, naming the size, where it does not.
    """

    def __init__(self, vocab: VocabMap, prior: AffinityPrior):
        super().__init__(vocab, prior)
        rows, size = prior.share.shape[0], prior.share.shape[0] * self.vocabulary * 8
        if size > LARGEST_MATRIX:
            raise ValueError(
                f"rdk_exact: its matrix of {rows:,} x {self.vocabulary:,} needs {size / 2**30:.1f} GiB, at most "
                f"{LARGEST_MATRIX / 2**30:.0f} are allowed; use sampler=rdk, which draws from the same law."
            )
        self._matrix: Tensor | None = None  # (D, V) in the dtype and on the device of the distributions last seen

    def _spread(self, given: Tensor) -> Tensor:
        matrix = self._matrix
        if matrix is None or matrix.dtype != given.dtype or matrix.device != given.device:
            rows = len(self._share)
            matrix = given.new_zeros(rows, self.vocabulary)
            matrix.scatter_add_(1, self._index.expand(rows, -1), self._weight.expand(rows, -1).to(given.dtype))
            self._matrix = matrix  # converted once: a conversion per distribution would cost more than the product
        return given @ matrix


def _check(vocab: VocabMap, prior: AffinityPrior) -> None:
    """Raise ValueError where shapes, ids or sums of the prior cannot belong to this map."""
    rows, targets = vocab.to_target.shape[0], vocab.to_drafter.shape[0]
    shape = prior.index.shape
    if len(shape) != 2 or shape[0] not in (1, rows) or prior.weight.shape != shape or prior.share.shape != (rows,):
        raise ValueError(
            f"affinity prior: expected index and weight ({rows}, K) or (1, K) and share ({rows},) for this drafter, got "
            f"{tuple(prior.index.shape)}, {tuple(prior.weight.shape)}, {tuple(prior.share.shape)}; make it again: stage=affinity."
        )
    if prior.index.numel() and not 0 <= int(prior.index.min()) <= int(prior.index.max()) < targets:
        raise ValueError(f"affinity prior: index must hold target ids below {targets}; make it again: stage=affinity.")
    giving = prior.share > 0 if shape[0] == rows else (prior.share > 0).any().unsqueeze(0)
    if not bool((prior.weight >= 0).all()) or not bool(((prior.weight.sum(-1) - 1).abs() < 1e-4)[giving].all()):
        raise ValueError(
            "affinity prior: every row of weight must be a law (>= 0, sum 1); make it again: stage=affinity."
        )
    if not bool(((prior.share >= 0) & (prior.share <= 1)).all()):
        raise ValueError("affinity prior: share must lie in [0, 1]; make it again: stage=affinity.")
