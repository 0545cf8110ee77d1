"""One round of a verifier with every draw and every test taken: its exact acceptance, from the production code itself.

What eval/acceptance/verifier_formulas.py has as formulas, for any verifier and tree, and for laws that depend on the path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drafters.rng.coins import Coins, Key
from drafters.samplers.draft import ABSENT, MISS, ROOT, Draft, DrawnLaws, Verifier
from drafters.samplers.proposal.identity import Identity
from eval.lossless.exact.enumeration import branches


@dataclass(frozen=True)
class Round:
    """N outcomes of a round."""

    probability: Tensor  # fp64 (N,), sums to one
    accepted: Tensor  # int64 (N,) drafted tokens that were accepted
    tokens: Tensor  # int64 (N, depth + 1) the accepted ones and the one after them, -1 behind
    vocabulary: int

    @property
    def expected(self) -> float:
        """Mean of accepted tokens."""
        return float(self.probability @ self.accepted.double())

    def law(self, depth: int) -> Tensor:
        """Law of the outcome's first tokens where there are `depth` of them: fp64 (V,) * depth, sums to P(so many)."""
        long = (self.tokens[:, :depth] >= 0).all(1)
        law = torch.zeros((self.vocabulary,) * depth, dtype=torch.float64)
        return law.index_put_(tuple(self.tokens[long, :depth].unbind(1)), self.probability[long], accumulate=True)


def one_round(verifier: Verifier, branching: Sequence[int], p: Tensor, q: Tensor, rows: int = 4096) -> Round:
    """Draft a tree with `branching[l]` children for every node at depth l (1s: a chain) and verify it, in every way there is.

    `p` and `q`: fp64 (C, V), the laws after each path; row 0 after the root, and row c V + x + 1 where token x follows the
    path of row c. C = 1: the same law everywhere. At most `rows` outcomes in one batch.
    """
    parts = []
    for coins in branches(rows):
        accepted, tokens = play(verifier, branching, p, q, coins, len(coins))
        parts.append((coins.weight, accepted, tokens))  # weights are final only now
    probability, accepted, tokens = (torch.cat(part) for part in zip(*parts, strict=True))
    return Round(probability, accepted, tokens, p.shape[1])


def random_laws(vocabulary: int, depth: int, generator: torch.Generator, zeros: float = 0.0) -> Tensor:
    """Laws after all paths of up to `depth` tokens, for `one_round`: fp64 (C, V); a share `zeros` of the entries is 0."""
    contexts = sum(vocabulary**level for level in range(depth + 1))
    law = torch.rand(contexts, vocabulary, generator=generator, dtype=torch.float64) ** 2
    law = law * (torch.rand(contexts, vocabulary, generator=generator) >= zeros)
    law[:, 0] += 1e-3 * (law.sum(-1) == 0)
    return law / law.sum(-1, keepdim=True)


def play(
    verifier: Verifier, branching: Sequence[int], p: Tensor, q: Tensor, coins: Coins, rows: int
) -> tuple[Tensor, Tensor]:
    """One round of `rows` rows under any coins; laws as for `one_round`. Returns Round's `accepted` and `tokens`."""
    nowhere = torch.zeros(rows, dtype=torch.int64)
    key = Key(nowhere, nowhere, "draft")
    laws, tokens, parents = DrawnLaws(Identity()), list[Tensor](), list[Tensor]()
    context = [nowhere]  # of the root, then of each node
    level = [ROOT]
    for depth, count in enumerate(branching):
        children: list[int] = []
        for parent in level:
            there = torch.ones_like(nowhere, dtype=torch.bool) if parent == ROOT else tokens[parent] >= 0
            law = q[context[parent + 1]]
            name = key.at(position=torch.where(there, depth, -1), node=parent + 1)
            laws.open(law)
            for token in verifier.draw(law, coins, name, count).unbind(1):
                token = torch.where(there, token, MISS)
                children.append(len(tokens))
                tokens.append(token)
                parents.append(torch.where(token >= 0, parent, ABSENT))
                laws.append(law.gather(1, token.clamp(min=0).unsqueeze(1)).squeeze(1) * (token >= 0))
                after = context[parent + 1] * q.shape[1] + token + 1
                context.append(torch.where(token >= 0, after, 0) if len(q) > 1 else nowhere)
        level = children
    draft = Draft(torch.stack(tokens, 1), torch.stack(parents, 1), laws)
    verdict = verifier.verify(p[torch.stack(context, 1)], draft, coins, key)
    path = verdict.nodes[:, : len(branching)]
    emitted = torch.full((rows, len(branching) + 1), -1)
    emitted[:, : path.shape[1]] = torch.where(path >= 0, draft.tokens.gather(1, path.clamp(min=0)), -1)
    emitted[torch.arange(rows), verdict.accepted] = verdict.next_token
    return verdict.accepted, emitted
