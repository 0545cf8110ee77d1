"""DISCO: draft on while a classifier's score of the drawn token is high (Mamou et al. 2024, arXiv 2405.04304)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from drafters.stop.classifier import ACCEPTED, Classifier
from drafters.stop.policy import Memoryless


@dataclass
class Disco(Memoryless):
    """Go on while P(the token just drawn is accepted) >= `threshold`."""

    classifier: Classifier
    threshold: float
    max_length: int = 20

    def goes_on(self, features: Tensor) -> Tensor:
        """Whether the classifier gives the last draft at least `threshold`, bool (B,)."""
        return self.classifier(features)[:, ACCEPTED] >= self.threshold
