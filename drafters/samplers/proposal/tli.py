"""Token-level intersection: the drafter's distribution renormalised on the tokens both vocabularies hold.

Timor et al. 2025 (arXiv 2502.05202), algorithm 4: q'(t) = q(t) / Z on the intersection, 0 elsewhere. Masking the
drafter's other tokens before the softmax renormalises for free, and must come before top-k and top-p, which do not
commute with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.samplers.draft import TokenProposal
from drafters.vocab.alignment import VocabMap


class TLI(TokenProposal):
    """Lift along a vocabulary map. Several drafter tokens with one target image add up."""

    def __init__(self, vocab: VocabMap):
        mapped = vocab.to_target >= 0
        if not bool(mapped.any()):
            raise ValueError("tli: target and drafter share no token; use a string-level sampler or another drafter.")
        self.vocabulary = vocab.to_drafter.shape[0]
        self.support = None if bool(mapped.all()) else mapped
        self._image = vocab.to_target.clamp(min=0)
        self._injective = bool(vocab.to_target[mapped].unique().numel() == int(mapped.sum())) and self.support is None

    def lift(self, q: Tensor) -> Tensor:
        """(..., D) -> (..., V). Masked drafter tokens carry no mass, so where they would land does not matter."""
        law = q.new_zeros(*q.shape[:-1], self.vocabulary)
        image = self._image.to(q.device)
        if self._injective:
            return law.scatter_(-1, image.expand_as(q), q)
        return law.index_add_(-1, image, q if self.support is None else torch.where(self.support.to(q.device), q, 0.0))
