"""How much each donor gives away: the share per kept token that maximises acceptance, by stochastic subgradient ascent.

alpha(e) = E sum_x min(p, q2) with q2 = q' - e q' + (sum_i e_i q'_i) r is concave in e, so there are no local optima:
d alpha / d e_i = E[q'_i (sum_j r_j 1{q2_j < p_j} - 1{q2_i < p_i})]. Steps are AdaGrad's (Duchi et al. 2011), projected to
[0, LARGEST]; the result is the mean of the later half of the iterates (Polyak averaging).
"""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.affinity.prior import AffinityPrior
from drafters.vocab.alignment import VocabMap

LARGEST = 0.95


class ShareFit:
    """Shares for a prior whose donors share one row of receivers. Fed with contexts, in any order."""

    def __init__(self, prior: AffinityPrior, vocab: VocabMap, steps: int, start: float = 0.02, rate: float = 0.15):
        """Raises ValueError for a prior with a row per donor, or where a row of the head has no target token."""
        if prior.index.shape[0] != 1 or bool((vocab.to_target < 0).any()):
            raise ValueError("ShareFit: expected one row shared by all donors, and a target token for every head row")
        self.prior, self.image, self.rate, self.steps = prior, vocab.to_target, rate, steps
        self.receivers, self.row = prior.index[0].long(), prior.weight[0]
        self.share = torch.full(prior.share.shape, start)
        self._squares = torch.full_like(self.share, 1e-12)
        self._sum, self._count, self.done = torch.zeros_like(self.share), 0, 0

    def step(self, p: Tensor, q: Tensor) -> None:
        """One ascent step on contexts p (n, V), q (n, D)."""
        slope = self.slope(p, q)
        self._squares += slope.square()
        self.share = (self.share + self.rate * slope / self._squares.sqrt()).clamp(0.0, LARGEST)
        self.done += 1
        if 2 * self.done > self.steps:
            self._sum += self.share
            self._count += 1

    def slope(self, p: Tensor, q: Tensor) -> Tensor:
        """d alpha / d e at the present shares, averaged over contexts: (D,)."""
        given = q * self.share
        inside = (q - given < p[:, self.image]).to(q.dtype)  # (n, D): one more unit of mass there would be accepted
        spread = given.sum(-1, keepdim=True) * self.row
        gained = (spread < p[:, self.receivers]).to(q.dtype) @ self.row  # (n,)
        return (q * (gained.unsqueeze(-1) - inside)).mean(0)

    def result(self) -> AffinityPrior:
        """The prior with the averaged shares."""
        share = self._sum / self._count if self._count else self.share
        return AffinityPrior(self.prior.index, self.prior.weight, share)
