"""Stop after a token that the drafter itself was unsure of: transformers' default since 4.45."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from drafters.stop.features import DRAWN
from drafters.stop.policy import Memoryless


@dataclass
class Confidence(Memoryless):
    """`GenerationConfig.assistant_confidence_threshold` with a constant schedule: go on while q(x) >= `threshold`."""

    threshold: float = 0.4
    max_length: int = 20

    def goes_on(self, features: Tensor) -> Tensor:
        """Whether the drawn token's probability is at least `threshold`, bool (B,)."""
        return features[:, DRAWN].exp() >= self.threshold
