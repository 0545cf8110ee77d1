"""Recursive rejection sampling on a tree.

With replacement: Miao et al. 2023 (SpecInfer, arXiv 2305.09781). Without replacement: Jeon et al. 2024 (arXiv 2402.14160) and
Chen et al. 2024 (Sequoia, arXiv 2402.12374). GSD of Kobus and Gunduz 2025 is this rule on a sequence, a batch or a tree.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from drafters.rng.coins import Coins, Key
from drafters.samplers.draft import Draft, Verdict
from drafters.samplers.tree.siblings import Siblings, SiblingVerifier, WithReplacement
from drafters.samplers.tree.walk import recursive_rejection


@dataclass(frozen=True)
class RRS(SiblingVerifier):
    """Recursive rejection of children drawn with or without replacement, as `siblings` says."""

    siblings: Siblings = field(default_factory=WithReplacement)

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """Test siblings in draw order, each against the residual of those before; see `Verifier.verify`."""
        return recursive_rejection(p, draft, coins, key, self.siblings)
