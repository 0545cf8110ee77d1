"""A constant draft length: the lookahead of Leviathan et al. 2023."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from drafters.stop.policy import StopPolicy


@dataclass
class Static(StopPolicy):
    """Draft `length` tokens every round. Raises ValueError if it is negative."""

    length: int = 5

    constant = True

    def __post_init__(self) -> None:
        if self.length < 0:
            raise ValueError(f"stop.length must be >= 0 (0 = plain decoding), got {self.length}.")
        self.max_length = self.length

    def should_continue(self, features: Tensor | None, drafted: Tensor) -> Tensor:
        """True while fewer than `length` tokens are drafted."""
        return drafted < self.length
