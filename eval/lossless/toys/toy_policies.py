"""Stop policies of the gate: they change their minds by what was accepted and by the prefix, as learnt ones do."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from drafters.stop.policies.confidence import Confidence
from drafters.stop.policies.static import Static
from drafters.stop.policy import StopPolicy


class Wavering(StopPolicy):
    """Longer after a round that was accepted whole, shorter after another; shorter still where the prefix is odd."""

    max_length = 3

    def __init__(self) -> None:
        self.length = self.emitted = torch.zeros(0, dtype=torch.int64)

    def reset(self, rows: Tensor) -> None:
        """See StopPolicy."""
        self.length = torch.ones(len(rows), dtype=torch.int64)
        self.emitted = torch.zeros(len(rows), dtype=torch.int64)

    def should_continue(self, features: Tensor | None, drafted: Tensor) -> Tensor:
        """See StopPolicy."""
        return drafted < (self.length - self.emitted % 2).to(drafted.device)

    def on_verified(self, accepted: Tensor, drafted: Tensor, rows: Tensor) -> None:
        """See StopPolicy."""
        step = torch.where(accepted == drafted, 2, -1)
        self.length[rows] = (self.length[rows] + step).clamp(0, 3)
        self.emitted[rows] += accepted + 1


STOPS: dict[str, Callable[[], StopPolicy]] = {
    "no drafts": lambda: Static(0),
    "length 1": lambda: Static(1),
    "length 2": lambda: Static(2),
    "length 3": lambda: Static(3),
    "early stop": Wavering,
    "reads the law": lambda: Confidence(
        0.45, 3
    ),  # a round's length depends on what was drawn; for chains of tokens alone
}
