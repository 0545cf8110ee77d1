"""transformers' heuristic schedule: two tokens more after a round accepted whole, one less after any other."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from drafters.stop.policy import PerRow, StopPolicy


@dataclass
class Heuristic(StopPolicy):
    """`GenerationConfig.num_assistant_tokens_schedule`: "heuristic" with `persist`, "heuristic_transient" without.

    Starts at `length` and never drafts more than `max_length`, which transformers does not bound. Raises ValueError on lengths
    that cannot be.
    """

    length: int = 5
    max_length: int = 20
    persist: bool = False
    _state: PerRow = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= self.length <= self.max_length:
            raise ValueError(f"stop.length must lie from 1 to stop.max_length = {self.max_length}, got {self.length}.")
        self._state = PerRow([float(self.length)], self.persist)

    def should_continue(self, features: Tensor | None, drafted: Tensor) -> Tensor:
        """True while fewer than the row's present length are drafted."""
        return drafted < self._state.column(0, drafted)

    def on_verified(self, accepted: Tensor, drafted: Tensor, rows: Tensor) -> None:
        """Lengthen or shorten; a round without drafts (at the end of a request) says nothing."""
        length = self._state.values[rows, 0]
        moved = torch.where(accepted == drafted, length + 2, length - 1).clamp(1, self.max_length)
        self._state.values[rows, 0] = torch.where(drafted > 0, moved, length)

    def reset(self, rows: Tensor) -> None:
        """Back to the first length, unless it persists."""
        self._state.reset(rows)
