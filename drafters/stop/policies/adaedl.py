"""Stop where an entropy bound on the acceptance falls below a threshold that follows the acceptance: AdaEDL."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from drafters.stop.features import ENTROPY
from drafters.stop.policy import PerRow, StopPolicy

THRESHOLD, RATE = range(2)


@dataclass
class AdaEDL(StopPolicy):
    """Agrawal et al. 2024 (PMLR 262): go on while 1 - sqrt(`gamma` H(q)) >= the row's threshold.

    From 1 - TV >= 1 - sqrt(KL / 2) with the cross-entropy taken as proportional to H. After a round the acceptance rate is
    smoothed by `rate_memory`; the threshold moves up by `step` where it is below `goal`, down by it where the round was not
    accepted whole, smoothed by `threshold_memory`.
    """

    threshold: float = 0.4  # at the start of a request
    gamma: float = 0.2
    goal: float = 0.9
    step: float = 0.01
    rate_memory: float = 0.5
    threshold_memory: float = 0.9
    max_length: int = 20
    persist: bool = False
    _state: PerRow = field(init=False, repr=False, compare=False)

    needs_features = True

    def __post_init__(self) -> None:
        if self.max_length < 1 or self.gamma <= 0:
            raise ValueError(
                f"stop.max_length must be >= 1 and stop.gamma > 0, got {self.max_length} and {self.gamma}."
            )
        self._state = PerRow([self.threshold, self.goal], self.persist)

    def should_continue(self, features: Tensor | None, drafted: Tensor) -> Tensor:
        """Continue while 1 - sqrt(gamma H(q)) >= the row's threshold; bool (B,)."""
        if features is None:
            return torch.ones_like(drafted, dtype=torch.bool)
        return 1 - (self.gamma * features[:, ENTROPY]).sqrt() >= self._state.column(THRESHOLD, drafted)

    def on_verified(self, accepted: Tensor, drafted: Tensor, rows: Tensor) -> None:
        """Move the thresholds of rows that drafted something."""
        took = drafted > 0
        accepted, drafted, rows = accepted[took], drafted[took], rows[took]
        old, rate = self._state.values[rows].unbind(-1)
        rate = self.rate_memory * rate + (1 - self.rate_memory) * accepted / drafted
        down = torch.where(accepted != drafted, old - self.step, old)
        moved = torch.where(rate < self.goal, old + self.step, down)
        new = self.threshold_memory * old + (1 - self.threshold_memory) * moved
        self._state.values[rows] = torch.stack([new, rate], -1)

    def reset(self, rows: Tensor) -> None:
        """Back to the first threshold, unless it persists."""
        self._state.reset(rows)
