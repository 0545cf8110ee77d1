"""The bound that no policy beats: it knows beforehand which drafts will be accepted. For replays, where that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drafters.stop.policy import StopPolicy


@dataclass
class Oracle(StopPolicy):
    """Draft exactly what will be accepted (Mamou et al. 2024, section 3).

    `accepted`: per row bool (n,), whether the draft for each position since the start of generation would be accepted. At
    temperature 0 this is known from the target's own text, for any policy.
    """

    accepted: Sequence[Tensor]
    max_length: int = 1024
    _runs: Tensor = field(init=False, repr=False, compare=False)
    _place: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        width = 1 + max((len(row) for row in self.accepted), default=0)
        self._runs = torch.zeros(len(self.accepted), width, dtype=torch.int64)
        for row, taken in enumerate(self.accepted):
            for place in range(len(taken) - 1, -1, -1):
                if bool(taken[place]):
                    self._runs[row, place] = self._runs[row, place + 1] + 1
        self._place = torch.zeros(len(self.accepted), dtype=torch.int64)

    def should_continue(self, features: Tensor | None, drafted: Tensor) -> Tensor:
        """Up to the first rejection."""
        place = self._place.clamp(max=self._runs.shape[1] - 1)
        ahead = self._runs.gather(1, place.unsqueeze(1)).squeeze(1)
        return drafted < ahead.to(drafted.device)

    def on_verified(self, accepted: Tensor, drafted: Tensor, rows: Tensor) -> None:
        """Walk on by what was emitted."""
        self._place[rows] += accepted + 1

    def reset(self, rows: Tensor) -> None:
        """Back to the start."""
        self._place[rows] = 0
