"""SpecDec++'s rule: stop once a rejection somewhere in the draft is likely (Huang et al. 2024, arXiv 2405.19715)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from drafters.stop.classifier import ACCEPTED, Classifier
from drafters.stop.policy import StopPolicy


@dataclass
class SpecDecPP(StopPolicy):
    """Go on while 1 - prod P(accepted) <= `threshold`.

    The paper's classifier reads the drafter's hidden state; here it is DISCO's, which reads the law. Their rule is the same.
    """

    classifier: Classifier
    threshold: float = 0.3
    max_length: int = 20
    _survival: Tensor = field(init=False, repr=False, compare=False)

    needs_features = True

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise ValueError(f"stop.max_length must be >= 1, got {self.max_length}.")
        self._survival = torch.ones(0)

    def should_continue(self, features: Tensor | None, drafted: Tensor) -> Tensor:
        """See StopPolicy."""
        if features is None:
            self._survival = torch.ones(len(drafted), device=drafted.device)
            return torch.ones_like(drafted, dtype=torch.bool)
        self._survival = self._survival * self.classifier(features)[:, ACCEPTED]
        return 1 - self._survival <= self.threshold
