"""The identity proposal, for a drafter with the target's whole vocabulary: drafts are drawn from q itself."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from drafters.samplers.draft import TokenProposal


@dataclass(frozen=True)
class Identity(TokenProposal):
    """Leviathan et al. 2023, Chen et al. 2023: q itself."""

    def lift(self, q: Tensor) -> Tensor:
        """(..., V) -> (..., V), unchanged."""
        return q
