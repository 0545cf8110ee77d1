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

from drafters.engine.compiled.code_keys import is_plain, kind_of, shared, tensors_of
from drafters.engine.compiled.compiled_forward import Layer, read
from drafters.probs import Sampling, warp
from drafters.rng.coins import HashedCoins, Key, KeyedCoins, draw_by
from drafters.samplers.draft import Sampler, TokenProposal
from drafters.stop.policy import StopPolicy


@dataclass(frozen=True)
class CompiledChain:
    """`length` drafts of one request: what Steps compiles (see drafters.engine.compiled.compiled_forward.Work)."""

    proposal: TokenProposal
    sampling: Sampling
    length: int

    @staticmethod
    def of(sampler: Sampler, stop: StopPolicy, sampling: Sampling) -> CompiledChain | None:
        """The chain as compilable work; None where drafts depend on more than the drafter's distribution and coins."""
        proposal = sampler.proposal
        if (
            not stop.constant
            or stop.max_length < 1
            or not sampler.verifier.compiles
            or not isinstance(proposal, TokenProposal)
            or not proposal.total
        ):
            return None
        return CompiledChain(proposal, sampling, stop.max_length) if is_plain(proposal) else None

    @cached_property
    def tensors(self) -> list[Tensor]:
        """The tensors of the proposal, such as its vocabulary map; see `Work.tensors`."""
        return tensors_of(self.proposal)

    @cached_property
    def key(self) -> Any:
        """What decides the compiled code; proposals of one kind share it. See `Work.key`."""
        return shared((CompiledChain, kind_of(self.proposal), self.sampling, self.length))

    @property
    def drafted(self) -> int:
        """The number of drafts fed: all but the last one; see `Work.drafted`."""
        return self.length - 1

    @property
    def forwards(self) -> int:
        """The number of drafter forwards, one per draft; see `Work.forwards`."""
        return self.length

    def given(self, key: Key, coins: KeyedCoins) -> list[Tensor]:
        """What the code reads of a round behind tokens and slots: the request's coins and the round's place."""
        assert key.round is not None
        return [coins.base, key.position, key.round]

    @cached_property
    def parents(self) -> Tensor:
        """The parents of the drafts, int64 (1, length)."""
        return torch.arange(-1, self.length - 1).unsqueeze(0)

    def __call__(self, model: Any, given: list[Tensor], layers: list[Layer]) -> list[Tensor]:
        """Tokens fed int64 (1, n), slots int64 (n + length - 1,), see `given` -> tokens (1, length), their probabilities
        (length, 1), and the lifted distributions (length, 1, V) they were drawn from.

        The distributions leave the code as the draws read them: lifted again outside of it, they could differ by a
        rounding.
        """
        tokens, slots, base, position, begun = given[:5]
        begin, support, coins = 0, self.proposal.support, HashedCoins(base)
        drawn, chances, laws = [], [], []
        for node in range(self.length):
            end = begin + tokens.shape[1]
            logits = read(model, tokens, slots[begin:end], layers)[:, -1]  # (1, D)
            q = warp(logits if support is None else logits.masked_fill(~support, -torch.inf), self.sampling)
            law = self.proposal.lift(q)  # (1, V)
            key = Key(position + node, begun, "draft", node)
            token = law.argmax(-1) if self.sampling.greedy else draw_by(coins.uniform(key), law)
            drawn.append(token)
            chances.append(law.gather(-1, token.unsqueeze(-1)).squeeze(-1).double())
            laws.append(law)
            tokens, begin = token.unsqueeze(0), end
        return [torch.stack(drawn, 1), torch.stack(chances), torch.stack(laws)]
