"""Bugs of block verification: what is tested, and what the residual is made of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from drafters.rng.coins import Key
from drafters.samplers.draft import Draft, Sampler, Verdict
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.verify import block
from drafters.samplers.verify.block import Block, prefix_chances
from eval.lossless.exact.one_round import random_laws
from eval.lossless.mutants.subject import EXACT, SAMPLED, Mutant, Subject, patched, verifier
from eval.lossless.toys.table_models import full_pair


class FirstFailure(Block):
    """Block verification that tests prefixes from the left and stops at the first failure."""

    def verify(self, p: Tensor, draft: Draft, coins: Any, key: Key) -> Verdict:
        """See Verifier."""
        _, chances = prefix_chances(p, draft, draft.present.sum(-1))
        going, accepted = key.position >= 0, torch.zeros_like(key.position)
        for tau in range(1, chances.shape[1]):
            there = going & draft.present[:, tau - 1]
            name = key.at(position=torch.where(there, key.position + tau - 1, -1), node=tau - 1, purpose="accept")
            going = coins.accept(chances[:, tau], torch.ones_like(chances[:, tau]), name) & there
            accepted = accepted + going

        class Decided:
            draw = staticmethod(coins.draw)

            @staticmethod
            def accept(p_x: Tensor, q_x: Tensor, key: Key) -> Tensor:
                return (accepted == key.node + 1) & (key.position >= 0)

        return super().verify(p, draft, Decided(), key)  # type: ignore[arg-type]


def whole() -> Subject:
    """Block verification, its rounds sampled one by one."""
    generator = torch.Generator().manual_seed(7)
    laws = random_laws(4, 2, generator), random_laws(4, 2, generator)
    sampler = Sampler("block", Identity(), Block())
    return Subject(sampler, pair=full_pair(3, 20), prompt=(0, 1, 2), new=4, round_laws=laws)


def uncapped(clean: Any) -> Any:
    """Block's residual with the weight of single tokens."""

    def wrong(p: Tensor, draft: Draft, count: Tensor) -> tuple[Tensor, Tensor]:
        weights, chances = prefix_chances(p, draft, count)
        return torch.ones_like(weights), chances

    return wrong


BOTH = (EXACT, SAMPLED)
MUTANTS = [
    Mutant("M6", "block: first failure ends it", whole, verifier(FirstFailure), BOTH),
    Mutant("M6", "block: residual of single tokens", whole, patched(block, "prefix_chances", uncapped), BOTH),
]
