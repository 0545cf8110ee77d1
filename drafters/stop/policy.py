"""The contract of stop policies."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from drafters.errors import DraftersError


class StopError(DraftersError):
    """A stop policy that does not exist, lacks what it needs, or cannot work with a sampler; the message says which."""


class StopPolicy(Protocol):
    """Asked before every draw, the first of a round included; a round of zero drafts is a plain target step.

    A policy decides whether to draw *more*. What was drawn is always submitted: dropping a token because of what it is would
    change the output's law. A policy with a true attribute `needs_features` is given features; it drafts chains only. One with a
    true attribute `constant` always drafts `max_length` tokens if it may, and need not be asked. One with an attribute
    `min_length` is asked before the first draw and then from that one on: draws before it are not described.
    """

    @property
    def max_length(self) -> int:
        """Never more drafts than this in a round (for trees: levels)."""
        ...

    def should_continue(self, features: Tensor | None, drafted: Tensor) -> Tensor:
        """(B, F) features of the last draw of this round (`drafters.stop.features`), None before the first one and for a policy
        that reads none; int64 (B,) tokens drafted this round -> bool (B,). What it says of rows that stopped is not looked at.
        """
        ...

    def on_verified(self, accepted: Tensor, drafted: Tensor, rows: Tensor) -> None:
        """After a round: int64 (R,) counts of the rows int64 (R,) that took part."""
        ...

    def reset(self, rows: Tensor) -> None:
        """The rows int64 (R,) take new requests."""
        ...


def asks_from(stop: StopPolicy) -> int | None:
    """The first draw of a round whose features the policy is given, 1 being the first; None for a policy that reads none."""
    return int(getattr(stop, "min_length", 1)) if reads_features(stop) else None


def is_constant(stop: StopPolicy) -> bool:
    """Whether a policy need not be asked: it drafts `max_length` tokens whenever it may."""
    return bool(getattr(stop, "constant", False))


def reads_features(stop: StopPolicy) -> bool:
    """Whether a policy must be given features: they cost time, so that nobody else pays for them."""
    return bool(getattr(stop, "needs_features", False))
