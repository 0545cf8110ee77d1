"""How the children of a node are drawn from its q, and the distribution of each given those drawn before it.

A verifier is lossless only with the distribution a child was really drawn from, so drawing and that distribution stand
side by side here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from drafters.rng.coins import Coins, Key
from drafters.samplers.draft import Verifier

_TINY = torch.finfo(torch.float64).tiny


class Siblings(Protocol):
    """A way to draw the children of a node."""

    @property
    def scheme(self) -> str:
        """Its name: with_replacement, without_replacement or greedy; see `Verifier.scheme`."""
        ...

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int) -> Tensor:
        """(B, V) -> int64 (B, count) in draw order, -1 where the distribution has no token left."""
        ...

    def laws(self, q: Tensor, tokens: Tensor) -> Iterator[Tensor]:
        """q (R, V), children int64 (R, K), -1 = none -> what each was drawn from: K of fp64 (R, V), read-only; any for -1."""
        ...


@dataclass(frozen=True)
class WithReplacement:
    """Independent draws; a token may come twice."""

    scheme = "with_replacement"

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int) -> Tensor:
        """Draw `count` independent children of each row, int64 (B, count), never -1."""
        return torch.stack([coins.draw(q, key.at(draw=number)) for number in range(count)], 1)

    def laws(self, q: Tensor, tokens: Tensor) -> Iterator[Tensor]:
        """See Siblings.laws: q for each."""
        law = q.double()
        for _ in range(tokens.shape[1]):
            yield law


@dataclass(frozen=True)
class WithoutReplacement:
    """Successive draws, each from what the earlier ones left. The order must stay: sorting changes the distribution."""

    scheme = "without_replacement"

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int) -> Tensor:
        """Draw different children, each from q without the earlier ones, int64 (B, count), -1 once q is empty."""
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

    scheme = "greedy"

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
        certain = tokens[:, 1:].clamp(min=0)  # one is -1 only beside a first child of -1, which is not tested
        law.scatter_(1, certain, 0.0)
        yield law / law.sum(-1, keepdim=True).clamp(min=_TINY)
        for token in certain.unbind(1):
            yield torch.zeros_like(law).scatter_(1, token.unsqueeze(-1), 1.0)


@dataclass(frozen=True)
class SiblingVerifier(Verifier):
    """The base of tree verifiers that are proved for the siblings they draw, whichever way `siblings` says."""

    siblings: Siblings

    tree = True

    @property
    def scheme(self) -> str:
        """The name of the way in which `siblings` draws."""
        return self.siblings.scheme

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int = 1) -> Tensor:
        """Draw the children as `siblings` does, int64 (B, count), -1 = no such child."""
        return self.siblings.draw(q, coins, key, count)


SIBLINGS: dict[str, Siblings] = {
    "with": WithReplacement(),
    "without": WithoutReplacement(),
    "mixed": OneDrawnThenTop(),
}


def _unless(empty: Tensor, key: Key) -> Key:
    """The same decision, but none in the rows where `empty`."""
    return key.at(position=torch.where(empty, -1, key.position))
