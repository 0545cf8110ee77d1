"""Verifies a round in one piece of compiled code: the target's forward, its distributions, the verifier's decision.

The rule that is compiled is the verifier's own `verify`; the coins are the request's own, hashed inside. Plain decoding is a round of
no drafts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from drafters.engine.cache.cached_model import Model, TransformersModel
from drafters.engine.compiled.code_keys import is_plain, kind_of, shared
from drafters.engine.compiled.compiled_forward import Layer, read
from drafters.probs import Sampling, warp
from drafters.rng.coins import Coins, HashedCoins, Key, KeyedCoins
from drafters.samplers.draft import Draft, DrawnLaws, Laws, Verdict, Verifier


@dataclass(frozen=True)
class StackedLaws:
    """The distributions of a chain of M drafts in tensors (see drafters.samplers.draft.Laws)."""

    rows: Tensor  # (M, B, V) as drawn from, M >= 1
    chances: Tensor  # fp64 (B, M)

    def at(self, tokens: Tensor) -> Tensor:
        """The probability each of the drafts was drawn with, fp64 (B, M); see `Laws.at`."""
        return self.chances

    def row(self, node: Tensor) -> Tensor:
        """The distribution each node was drawn from, (B, V), zero rows for -1; see `Laws.row`."""
        law = self.rows[node.clamp(min=0), torch.arange(node.shape[0], device=node.device)]
        return law * (node >= 0).unsqueeze(-1)


class NoDraftLaws:
    """The distributions of a round without drafts: none, as tensors that compiled code can read."""

    def at(self, tokens: Tensor) -> Tensor:
        """Zeros of the shape of `tokens`, fp64 (B, 0); see `Laws.at`."""
        return torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device)

    def row(self, node: Tensor) -> Tensor:
        """See Laws.row: one zero stands for all."""
        return torch.zeros(node.shape[0], 1, dtype=torch.float64, device=node.device)


@dataclass(frozen=True)
class Verification:
    """What Steps compiles (see drafters.engine.compiled.compiled_forward.Work), for one request and `count` drafts in a chain."""

    verifier: Verifier
    sampling: Sampling
    reads_laws: bool
    count: int

    forwards = 1
    drafted = 0
    tensors = ()

    @staticmethod
    def of(verifier: Verifier, sampling: Sampling, draft: Draft) -> Verification | None:
        """The verification of a draft as compilable work; None where it takes more than distributions and coins."""
        laws, count = draft.q, draft.tokens.shape[1]
        if not verifier.compiles or not is_plain(verifier):
            return None
        if (laws is None and not verifier.needs_law) or (laws is not None and count == 0):
            return Verification(verifier, sampling, False, count)
        known = isinstance(laws, DrawnLaws) and laws.source == list(range(count))
        return Verification(verifier, sampling, True, count) if known else None

    @cached_property
    def key(self) -> Any:
        """What decides the compiled code: kind of verifier, warps, use of distributions, number of drafts."""
        return shared((Verification, kind_of(self.verifier), self.sampling, self.reads_laws, self.count))

    def given(self, draft: Draft, key: Key, coins: KeyedCoins) -> list[Tensor]:
        """What the code reads of a round after tokens and slots: the request's coins, the round's place, and q.

        They are lifted here, as they were for the draws: compiled, the same lift could round otherwise.
        """
        assert key.round is not None
        place = [coins.base, key.position, key.round]
        if not self.reads_laws:
            return place
        assert isinstance(draft.q, DrawnLaws)
        return [*place, *map(draft.q.proposal.lift, draft.q.rows), *draft.q.probabilities]

    def __call__(self, model: Any, given: list[Tensor], layers: list[Layer]) -> list[Tensor]:
        """The last committed token and the drafts int64 (1, M + 1), slots int64 (M + 1,), see `given` -> what a Verdict holds."""
        tokens, slots, base, position, begun = given[:5]
        p = warp(read(model, tokens.clamp(min=0), slots, layers), self.sampling)  # (1, M + 1, V)
        laws: Laws = NoDraftLaws()
        if self.reads_laws:
            rows, chances = given[5 : 5 + self.count], given[5 + self.count : 5 + 2 * self.count]
            laws = StackedLaws(torch.stack(rows), torch.stack(chances, 1))
        parents = torch.arange(self.count, device=tokens.device).unsqueeze(0) - 1
        draft = Draft(tokens[:, 1:], parents, laws)
        verdict = self.verifier.verify(p, draft, HashedCoins(base), Key(position, begun, "draft"))
        return [verdict.nodes, verdict.accepted, verdict.next_token]


class Verifications:
    """The compiled verifications of a decode call, one for each number of drafts."""

    def __init__(self, target: Model, verifier: Verifier, sampling: Sampling):
        self._target = target if isinstance(target, TransformersModel) and target.steps is not None else None
        self._verifier, self._sampling = verifier, sampling
        self._works: dict[int, Verification | None] = {}  # by number of drafts; in one call q is of one kind

    def verdict(self, tokens: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict | None:
        """The compiled verdict on a chain; `tokens` are the last committed one and the drafts, int64 (1, M + 1).

        None, with nothing done, where there is no compiled code for it: other models, verifiers and coins, more than one request.
        """
        if self._target is None or not isinstance(coins, KeyedCoins) or coins.strict:  # strict coins note their uses
            return None
        count = draft.tokens.shape[1]
        if count not in self._works:
            self._works[count] = Verification.of(self._verifier, self._sampling, draft)
        work = self._works[count]
        found = None if work is None else self._target.perform(work, tokens, lambda: work.given(draft, key, coins))
        return None if found is None else Verdict(*found)
