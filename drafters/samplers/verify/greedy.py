"""Greedy multi-draft sampling: the k - 1 most likely tokens, and one drawn from the rest.

Hu et al. 2025 (arXiv 2502.18779), section 5. Trying the drawn child first makes recursive rejection optimal for this
draft distribution; the others are then certain drafts, worth their target mass each.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from drafters.rng.coins import Coins, Key
from drafters.samplers.draft import Draft, Verdict
from drafters.samplers.tree.siblings import OneDrawnThenTop, Siblings, SiblingVerifier
from drafters.samplers.tree.walk import recursive_rejection


@dataclass(frozen=True)
class Greedy(SiblingVerifier):
    """Recursive rejection of one drawn and k - 1 certain children, in this order."""

    siblings: Siblings = field(default_factory=OneDrawnThenTop)

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """Test the drawn child, then the certain ones, by recursive rejection; see `Verifier.verify`."""
        return recursive_rejection(p, draft, coins, key, self.siblings)
