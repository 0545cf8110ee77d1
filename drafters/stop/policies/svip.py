"""Stop where the drafter's entropy is high: SVIP (Zhang et al. 2024, arXiv 2411.18462)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from drafters.stop.features import ENTROPY
from drafters.stop.policy import Memoryless


@dataclass
class SVIP(Memoryless):
    """Go on while sqrt(`scale` H(q)) <= `threshold`, H in nats: the numbers of the paper's code stop at H > 0.6."""

    scale: float = 0.15
    threshold: float = 0.3
    max_length: int = 40

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale <= 0:
            raise ValueError(f"stop.scale must be > 0, got {self.scale}.")

    def goes_on(self, features: Tensor) -> Tensor:
        """Whether sqrt(`scale` H(q)) is at most `threshold`, bool (B,)."""
        return (self.scale * features[:, ENTROPY]).sqrt() <= self.threshold
