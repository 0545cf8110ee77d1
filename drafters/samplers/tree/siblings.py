"""How the children of one node are drawn from its law q, and the law each of them then has given the ones drawn before it.

A verifier is lossless only with the law a child was really drawn from, so drawing and that law stand side by side here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from drafters.rng.coins import Coins, Key

_TINY = torch.finfo(torch.float64).tiny


class Siblings(Protocol):
    """A way to draw the children of a node."""

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int) -> Tensor:
        """(B, V) -> int64 (B, count) in draw order, -1 where the law has no token left."""
        ...

    def laws(self, q: Tensor, tokens: Tensor) -> Iterator[Tensor]:
        """(R, V) and the children int64 (R, K), -1 = none -> K laws fp64 (R, V), to be read only; any row for a child of -1."""
        ...


@dataclass(frozen=True)
class WithReplacement:
    """Independent draws; a token may come twice."""

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int) -> Tensor:
        """See Siblings.draw; never -1."""
        return torch.stack([coins.draw(q, key.at(draw=number)) for number in range(count)], 1)

    def laws(self, q: Tensor, tokens: Tensor) -> Iterator[Tensor]:
        """See Siblings.laws: q for each."""
        law = q.double()
        for _ in range(tokens.shape[1]):
            yield law


@dataclass(frozen=True)
class WithoutReplacement:
    """Successive draws, each from what the earlier ones left. The order is part of the law: it must not be sorted."""

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int) -> Tensor:
        """See Siblings.draw."""
        left, tokens = q.clone(), []
        for number in range(count):
            empty = left.sum(-1) <= 0
            token = coins.draw(left, _unless(empty, key.at(draw=number)))
            tokens.append(torch.where(empty, -1, token))
            left.scatter_(1, token.unsqueeze(-1), 0.0)
        return torch.stack(tokens, 1)

    def laws(self, q: Tensor, tokens: Tensor) -> Iterator[Tensor]:
        """See Siblings.laws: q without the earlier children, renormalised."""
        left = q.to(torch.float64, copy=True)
        for token in tokens.unbind(1):
            yield left / left.sum(-1, keepdim=True).clamp(min=_TINY)
            left.scatter_(1, token.clamp(min=0).unsqueeze(-1), 0.0)


@dataclass(frozen=True)
class OneDrawnThenTop:
    """One child drawn outside the top count - 1 tokens of q, then these, the likeliest first (Hu et al. 2025, section 5)."""

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int) -> Tensor:
        """See Siblings.draw. The lowest id first among equally likely ones."""
        left, top = q.clone(), []
        for _ in range(count - 1):
            most = left.max(-1).values
            token = left.argmax(-1)
            top.append(torch.where(most > 0, token, -1))
            left.scatter_(1, token.unsqueeze(-1), 0.0)
        empty = left.sum(-1) <= 0  # q has fewer tokens than children: all of them are certain
        drawn = torch.where(empty, -1, coins.draw(left, _unless(empty, key)))
        return torch.stack([drawn, *top], 1)

    def laws(self, q: Tensor, tokens: Tensor) -> Iterator[Tensor]:
        """See Siblings.laws: q without the later children, renormalised; then all mass on one token each."""
        law = q.to(torch.float64, copy=True)
        certain = tokens[:, 1:].clamp(min=0)  # one of -1 stands only beside a first child of -1, whose law is not used
        law.scatter_(1, certain, 0.0)
        yield law / law.sum(-1, keepdim=True).clamp(min=_TINY)
        for token in certain.unbind(1):
            yield torch.zeros_like(law).scatter_(1, token.unsqueeze(-1), 1.0)


SIBLINGS: dict[str, Siblings] = {
    "with": WithReplacement(),
    "without": WithoutReplacement(),
    "mixed": OneDrawnThenTop(),
}


def _unless(empty: Tensor, key: Key) -> Key:
    """The same decision, but none in the rows where `empty`."""
    return key.at(position=torch.where(empty, -1, key.position))
