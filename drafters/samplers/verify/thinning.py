"""Rejection sampling that never needs a whole law: the residual is drawn by thinning the target's.

After a rejection, draw y ~ p and keep it with probability 1 - min(1, q(y) / p(y)), else draw again: y has the law of
max(p - q, 0). A rejection has probability 1 - alpha and each y is kept with that probability, so the residual costs one evaluation of q
per round on average, and the draft's own one more.
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor

from drafters.probs import residual
from drafters.rng.coins import Coins, Key
from drafters.samplers.draft import Draft, Laws, Verdict, Verifier


class PointLaws(Laws, Protocol):
    """Laws of one node per row that can be asked for single tokens."""

    def of(self, tokens: Tensor) -> Tensor:
        """(B,) tokens, -1 = none -> fp64 (B,) their probabilities."""
        ...


class Thinning(Verifier):
    """One drafted token per row. After `tries` thinned draws the residual is taken from the whole law after all."""

    def __init__(self, tries: int = 256):
        self.tries = tries

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int = 1) -> Tensor:
        """(B, V) -> int64 (B, 1)."""
        return coins.draw(q, key).unsqueeze(-1)

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """See Verifier.verify."""
        live = key.position >= 0
        nodes = torch.full((p.shape[0], 1), -1, dtype=torch.int64, device=p.device)
        if not draft.tokens.shape[1]:
            token = coins.draw(p[:, 0], key.at(purpose="residual"))
            return Verdict(nodes, torch.zeros_like(key.position), token)
        laws = cast(PointLaws, draft.q)
        drafted, tokens = draft.present[:, 0] & live, draft.tokens[:, 0]
        p_x = p[:, 0].gather(-1, tokens.clamp(min=0).unsqueeze(-1)).squeeze(-1).double() * (tokens >= 0)
        tested = key.at(position=torch.where(drafted, key.position, -1), purpose="accept")
        passed = coins.accept(p_x, laws.of(torch.where(drafted, tokens, -1)), tested) & drafted
        rejected = drafted & ~passed
        law = torch.where(passed.unsqueeze(-1), p[:, 1], p[:, 0]).double()
        position = torch.where(live & ~rejected, key.position + passed, -1)
        token = coins.draw(law, key.at(position=position, purpose="residual"))
        token = torch.where(rejected, self._residual(p[:, 0].double(), laws, rejected, coins, key), token)
        return Verdict(torch.where(passed.unsqueeze(-1), 0, nodes), passed.long(), token)

    def _residual(self, p: Tensor, laws: PointLaws, waiting: Tensor, coins: Coins, key: Key) -> Tensor:
        """A token of the residual law for every row in `waiting`; any value in the others."""
        result = torch.zeros_like(key.position)
        for number in range(1, self.tries + 1):
            if not bool(waiting.any()):
                return result
            name = key.at(position=torch.where(waiting, key.position, -1), draw=number)
            token = coins.draw(p, name.at(purpose="residual"))
            p_y = p.gather(-1, token.unsqueeze(-1)).squeeze(-1)
            excess = (p_y - laws.of(torch.where(waiting, token, -1))).clamp(min=0.0)
            kept = coins.accept(excess, p_y, name.at(purpose="accept")) & waiting
            result = torch.where(kept, token, result)
            waiting = waiting & ~kept
        if not bool(waiting.any()):
            return result
        whole = residual(p, laws.row(torch.where(waiting, 0, -1)))
        last = key.at(position=torch.where(waiting, key.position, -1), draw=self.tries + 1, purpose="residual")
        return torch.where(waiting, coins.draw(whole, last), result)
