"""The contract of stop policies, and what they share."""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.errors import DraftersError


class StopError(DraftersError):
    """A stop policy that does not exist, lacks what it needs, or cannot work with a sampler; the message says which."""


class StopPolicy:
    """Asked before every draw, the first of a round included; a round of zero drafts is a plain target step.

    A policy decides whether to draw *more*. What was drawn is always submitted: dropping a token because of what it is
    would change the output's distribution. Without `on_verified` and `reset` of its own it learns nothing and keeps no
    state.
    """

    max_length: int  # never more drafts than this in a round (for trees: levels)
    constant: bool = False  # always drafts `max_length` tokens if it may, and need not be asked
    needs_features: bool = False  # is given features, which cost time, and drafts chains only
    min_length: int = 1  # asked before the first draw and then from this one on: draws before it are not described

    @property
    def asks_from(self) -> int | None:
        """The first draw of a round whose features it is given, 1 being the first; None for a policy that reads none."""
        return self.min_length if self.needs_features else None

    def should_continue(self, features: Tensor | None, drafted: Tensor) -> Tensor:
        """(B, F) features of the last draw of this round (`drafters.stop.features`), None before the first one and for a policy
        that reads none; int64 (B,) tokens drafted this round -> bool (B,). What it says of rows that stopped is not looked at.
        """
        raise NotImplementedError

    def on_verified(self, accepted: Tensor, drafted: Tensor, rows: Tensor) -> None:
        """Learn from a round: int64 (R,) tokens accepted and drafted in the rows int64 (R,) that took part."""

    def reset(self, rows: Tensor) -> None:
        """Prepare the rows int64 (R,) for new requests."""


class Memoryless(StopPolicy):
    """Judges the last draw alone and learns nothing: draws the first token of every round, then goes on while `goes_on` says so."""

    needs_features = True
    max_length: int

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise ValueError(f"stop.max_length must be >= 1, got {self.max_length}.")

    def goes_on(self, features: Tensor) -> Tensor:
        """Whether to draw on after a draw with these features: (B, F) -> bool (B,)."""
        raise NotImplementedError

    def should_continue(self, features: Tensor | None, drafted: Tensor) -> Tensor:
        """Continue with the first draft always, later as `goes_on` says; bool (B,)."""
        if features is None:
            return torch.ones_like(drafted, dtype=torch.bool)
        return self.goes_on(features)


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
