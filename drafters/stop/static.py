"""A constant draft length: the lookahead of Leviathan et al. 2023."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Static:
    """Draft `length` tokens every round. Raises ValueError if it is negative."""

    length: int = 5

    constant = True

    def __post_init__(self) -> None:
        if self.length < 0:
            raise ValueError(f"stop.length must be >= 0 (0 = plain decoding), got {self.length}.")

    @property
    def max_length(self) -> int:
        """The constant."""
        return self.length

    def should_continue(self, features: Tensor | None, drafted: Tensor) -> Tensor:
        """True while fewer than `length` tokens are drafted."""
        return drafted < self.length

    def on_verified(self, accepted: Tensor, drafted: Tensor, rows: Tensor) -> None:
        """A constant learns nothing."""

    def reset(self, rows: Tensor) -> None:
        """A constant keeps no state."""
