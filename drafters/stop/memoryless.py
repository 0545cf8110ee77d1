"""What policies share that judge the last draw alone and learn nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.stop.policy import StopPolicy


class Memoryless(StopPolicy):
    """Draws the first token of every round, then goes on while `goes_on` says so."""

    needs_features = True
    max_length: int

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise ValueError(f"stop.max_length must be >= 1, got {self.max_length}.")

    def goes_on(self, features: Tensor) -> Tensor:
        """(B, F) of the last draw -> bool (B,)."""
        raise NotImplementedError

    def should_continue(self, features: Tensor | None, drafted: Tensor) -> Tensor:
        """See StopPolicy."""
        if features is None:
            return torch.ones_like(drafted, dtype=torch.bool)
        return self.goes_on(features)
