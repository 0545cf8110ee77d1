"""The contract of stop policies."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class StopPolicy(Protocol):
    """Asked before every draw, the first of a round included; a round of zero drafts is a plain target step."""

    @property
    def max_length(self) -> int:
        """Never more drafts than this in a round (for trees: levels)."""
        ...

    def should_continue(self, features: Tensor | None, drafted: Tensor) -> Tensor:
        """(B, F) features of the next draw, None for a policy that reads none, and int64 (B,) tokens drafted this round -> bool (B,)."""
        ...

    def on_verified(self, accepted: Tensor, drafted: Tensor, rows: Tensor) -> None:
        """After a round: int64 (R,) counts of the rows int64 (R,) that took part."""
        ...

    def reset(self, rows: Tensor) -> None:
        """The rows int64 (R,) take new requests."""
        ...
