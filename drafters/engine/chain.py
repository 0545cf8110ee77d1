"""A chain of constant length drafted by one piece of compiled code: forwards and draws, with nothing between them.

A policy that asks nothing of a draw lets the drafter go on by itself; token by token, a small drafter waits for Python longer than it
computes. The tokens are those that the same coins draw one by one, up to the rounding of compiled code.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from drafters.coins import draw_by
from drafters.engine.compiled import Layer, read
from drafters.probs import Sampling, warp
from drafters.samplers.draft import Sampler, TokenProposal
from drafters.stop.policy import StopPolicy, is_constant


@dataclass(frozen=True)
class Chain:
    """`length` drafts of one request: what Steps compiles (see drafters.engine.compiled.Work)."""

    proposal: TokenProposal
    sampling: Sampling
    length: int

    @staticmethod
    def of(sampler: Sampler, stop: StopPolicy, sampling: Sampling) -> Chain | None:
        """None where drafts depend on more than the drafter's law and a coin each."""
        proposal = sampler.proposal
        if (
            not is_constant(stop)
            or stop.max_length < 1
            or not getattr(sampler.verifier, "inverse_cdf", False)
            or not getattr(proposal, "total", False)
        ):
            return None
        chain = Chain(sampler.token_proposal, sampling, stop.max_length)
        plain = all(isinstance(value, Tensor | int | float | str | None) for value in vars(proposal).values())
        return chain if plain else None

    @cached_property
    def tensors(self) -> list[Tensor]:
        """What the proposal knows, as the code is to be given it."""
        return [value for value in vars(self.proposal).values() if isinstance(value, Tensor)]

    @cached_property
    def key(self) -> Any:
        """Names the compiled code: another proposal of the same kind, with tensors of the same shapes, shares it."""
        known = (
            (name, (value.shape, value.dtype, value.device) if isinstance(value, Tensor) else value)
            for name, value in vars(self.proposal).items()
        )
        return type(self.proposal), tuple(known), self.sampling, self.length

    def __call__(self, model: Any, given: list[Tensor], layers: list[Layer]) -> list[Tensor]:
        """Tokens fed int64 (1, n), slots int64 (n + length - 1,), coins fp64 (length,) -> tokens (length,), their
        probabilities (length, 1), and the lifted laws (length, 1, V) they were drawn from.

        The laws leave the code as the draws read them: lifted again outside of it, they could differ by a rounding.
        """
        tokens, slots, coins = given[:3]
        begin, support = 0, self.proposal.support
        drawn, chances, laws = [], [], []
        for node in range(self.length):
            end = begin + tokens.shape[1]
            logits = read(model, tokens, slots[begin:end], layers)[:, -1]  # (1, D)
            q = warp(logits if support is None else logits.masked_fill(~support, -torch.inf), self.sampling)
            law = self.proposal.lift(q)  # (1, V)
            token = law.argmax(-1) if self.sampling.greedy else draw_by(coins[node : node + 1], law)
            drawn.append(token)
            chances.append(law.gather(-1, token.unsqueeze(-1)).squeeze(-1).double())
            laws.append(law)
            tokens, begin = token.unsqueeze(0), end
        return [torch.cat(drawn), torch.stack(chances), torch.stack(laws)]
