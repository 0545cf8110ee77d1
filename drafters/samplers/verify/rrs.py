"""Recursive rejection sampling on a tree: try a node's children in draw order, each against what the ones before left over.

With replacement: Miao et al. 2023 (SpecInfer, arXiv 2305.09781). Without replacement: Jeon et al. 2024 (arXiv 2402.14160) and
Chen et al. 2024 (Sequoia, arXiv 2402.12374). GSD of Kobus and Gunduz 2025 is this rule on a sequence, a batch or a tree.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from drafters.coins import Coins, Key
from drafters.probs import residual
from drafters.samplers.draft import Draft, Verdict
from drafters.samplers.siblings import draw_without_replacement, earlier_siblings, without
from drafters.samplers.walk import Walk


@dataclass(frozen=True)
class RRS:
    """One pass over the nodes: a row tests node m only if m hangs on the node the row has reached."""

    replacement: bool = True
    needs_law: bool = True
    positional: bool = False
    tree: bool = True

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int = 1) -> Tensor:
        """(B, V) -> int64 (B, count) in draw order; -1 where the law holds fewer tokens than asked (without replacement)."""
        if self.replacement:
            return torch.stack([coins.draw(q, key.at(draw=number)) for number in range(count)], 1)
        return draw_without_replacement(q, count, lambda law, number: coins.draw(law, key.at(draw=number)))

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """See Verifier.verify. A repeated sibling always fails but must still take its share of the residual away."""
        walk = Walk(p, draft, key)
        rest = p[:, 0].double()  # (B, V) what the reached node still owes
        for node in range(draft.tokens.shape[1]):
            tried = walk.reaches(node)
            law = draft.q.row(torch.where(tried, node, -1)).double()  # (B, V)
            if not self.replacement:
                law = without(law, draft.tokens, earlier_siblings(draft, node))
            passed = walk.test(node, tried, rest, law, coins)
            left = residual(rest, law)
            left = left / left.sum(-1, keepdim=True)
            rest = torch.where(
                passed.unsqueeze(-1), p[:, node + 1].double(), torch.where(tried.unsqueeze(-1), left, rest)
            )
        return walk.finish(rest, coins)
