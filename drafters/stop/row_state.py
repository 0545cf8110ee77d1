"""Numbers that a policy keeps per row of the batch."""

from __future__ import annotations

import torch
from torch import Tensor


class PerRow:
    """State fp64 (B, n) on the CPU, one row per request. With `persist`, a row's next request goes on with what it left."""

    def __init__(self, start: list[float], persist: bool = False):
        self.start, self.persist = torch.tensor(start, dtype=torch.float64), persist
        self.values = torch.zeros(0, len(start), dtype=torch.float64)

    def reset(self, rows: Tensor) -> None:
        """Make room for the rows int64 (R,) and give them the start values, unless they keep what they have."""
        known = self.values.shape[0]
        missing = int(rows.max()) + 1 - known if rows.numel() else 0
        if missing > 0:
            self.values = torch.cat([self.values, self.start.expand(missing, -1)])
        if not self.persist:
            self.values[rows] = self.start

    def column(self, index: int, like: Tensor) -> Tensor:
        """fp64 (B,) on the device of `like` (B, ...), for its first B rows."""
        return self.values[: like.shape[0], index].to(like.device)
