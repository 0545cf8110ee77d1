"""Recursive rejection sampling on a tree.

With replacement: Miao et al. 2023 (SpecInfer, arXiv 2305.09781). Without replacement: Jeon et al. 2024 (arXiv 2402.14160) and
Chen et al. 2024 (Sequoia, arXiv 2402.12374). GSD of Kobus and Gunduz 2025 is this rule on a sequence, a batch or a tree.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from drafters.rng.coins import Coins, Key
from drafters.samplers.draft import Draft, Verdict, Verifier
from drafters.samplers.tree.siblings import Siblings, WithReplacement
from drafters.samplers.tree.walk import recursive_rejection


@dataclass(frozen=True)
class RRS(Verifier):
    """`siblings`: with or without replacement."""

    siblings: Siblings = field(default_factory=WithReplacement)

    tree = True

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int = 1) -> Tensor:
        """See Siblings.draw."""
        return self.siblings.draw(q, coins, key, count)

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """See Verifier.verify."""
        return recursive_rejection(p, draft, coins, key, self.siblings)
