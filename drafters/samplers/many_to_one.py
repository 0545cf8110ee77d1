"""Many-to-one moves of a drafter's distribution to target tokens; a drafter token without an image is a miss."""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.samplers.draft import TokenProposal


class Relabelling(TokenProposal):
    """`image` int64 (D,): the target token that each drafter token counts as, -1 = a miss.

    Probabilities of drafter tokens with one image add up. The mass without image is the miss: it is drawn like a token,
    is always rejected, and the residual max(p - q, 0) then makes up for it because q is not renormalised (a miss is a
    token of an extended vocabulary that the target gives probability 0).
    """

    def __init__(self, name: str, image: Tensor, vocabulary: int):
        """Raises ValueError where no drafter token has an image."""
        if not bool((image >= 0).any()):
            raise ValueError(f"{name}: no drafter token becomes a target token; use another drafter.")
        self.vocabulary = vocabulary
        self.total = bool((image >= 0).all())
        self._image = torch.where(image >= 0, image, vocabulary)  # the miss is column V

    def lift(self, q: Tensor) -> Tensor:
        """(..., D) -> (..., V), rows sum to one less the miss."""
        return self.extend(q)[..., : self.vocabulary]

    def extend(self, q: Tensor) -> Tensor:
        """(..., D) -> (..., V + 1): the distribution that is drawn from, the miss behind the target's tokens."""
        law = q.new_zeros(*q.shape[:-1], self.vocabulary + 1)
        return law.index_add_(-1, self._image.to(q.device), q)
