"""The contract of stop policies."""

from __future__ import annotations

from torch import Tensor

from drafters.errors import DraftersError


class StopError(DraftersError):
    """A stop policy that does not exist, lacks what it needs, or cannot work with a sampler; the message says which."""


class StopPolicy:
    """Asked before every draw, the first of a round included; a round of zero drafts is a plain target step.

    A policy decides whether to draw *more*. What was drawn is always submitted: dropping a token because of what it is would
    change the output's law. Without `on_verified` and `reset` of its own it learns nothing and keeps no state.
    """

    max_length: int  # never more drafts than this in a round (for trees: levels)
    constant: bool = False  # always drafts `max_length` tokens if it may, and need not be asked
    needs_features: bool = False  # is given features, and drafts chains only
    min_length: int = 1  # asked before the first draw and then from this one on: draws before it are not described

    def should_continue(self, features: Tensor | None, drafted: Tensor) -> Tensor:
        """(B, F) features of the last draw of this round (`drafters.stop.features`), None before the first one and for a policy
        that reads none; int64 (B,) tokens drafted this round -> bool (B,). What it says of rows that stopped is not looked at.
        """
        raise NotImplementedError

    def on_verified(self, accepted: Tensor, drafted: Tensor, rows: Tensor) -> None:
        """After a round: int64 (R,) counts of the rows int64 (R,) that took part."""

    def reset(self, rows: Tensor) -> None:
        """The rows int64 (R,) take new requests."""


def asks_from(stop: StopPolicy) -> int | None:
    """The first draw of a round whose features the policy is given, 1 being the first; None for a policy that reads none."""
    return stop.min_length if reads_features(stop) else None


def is_constant(stop: StopPolicy) -> bool:
    """Whether a policy need not be asked: it drafts `max_length` tokens whenever it may."""
    return stop.constant


def reads_features(stop: StopPolicy) -> bool:
    """Whether a policy must be given features: they cost time, so that nobody else pays for them."""
    return stop.needs_features
