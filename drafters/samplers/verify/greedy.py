"""Greedy multi-draft sampling: the k - 1 most likely tokens, and one drawn from the rest.

Hu et al. 2025 (arXiv 2502.18779), section 5. Trying the drawn child first makes the rule optimal for this draft law; the others are
then certain drafts, worth their target mass each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.coins import Coins, Key
from drafters.probs import residual
from drafters.samplers.draft import Draft, Verdict
from drafters.samplers.siblings import earlier_siblings, later_siblings, one_hot, without
from drafters.samplers.walk import Walk


def top_tokens(q: Tensor, count: int) -> Tensor:
    """The `count` most likely tokens, ties by lowest id, -1 for tokens without mass: (B, V) -> int64 (B, count)."""
    order = torch.sort(q, dim=-1, descending=True, stable=True)
    return torch.where(order.values[:, :count] > 0, order.indices[:, :count], -1)


def first_law(q: Tensor, draft: Draft, node: int) -> Tensor:
    """Law of a first child: q without its later siblings, renormalised (B, V)."""
    return without(q, draft.tokens, later_siblings(draft, node))


class Greedy:
    """The drawn child comes first; the others are one-hot laws."""

    needs_law, positional, tree = True, False, True

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int = 1) -> Tensor:
        """(B, V) -> int64 (B, count): one token drawn outside the top count - 1, then these in order of probability."""
        top = top_tokens(q, count - 1)
        others = without(q, top, torch.ones_like(top, dtype=torch.bool)) if count > 1 else q.double()
        empty = others.sum(-1) <= 0  # the law has fewer tokens than children: all of them are certain drafts
        drawn = coins.draw(torch.where(empty.unsqueeze(-1), q.double(), others), key)
        return torch.cat([torch.where(empty, -1, drawn).unsqueeze(-1), top], 1)

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """See Verifier.verify."""
        walk = Walk(p, draft, key)
        rest = p[:, 0].double()
        for node in range(draft.tokens.shape[1]):
            tried = walk.reaches(node)
            q = draft.q.row(torch.where(tried, node, -1)).double()
            is_first = ~earlier_siblings(draft, node).any(-1, keepdim=True)
            law = torch.where(is_first, first_law(q, draft, node), one_hot(q, draft.tokens[:, node]))
            passed = walk.test(node, tried, rest, law, coins).unsqueeze(-1)
            left = residual(rest, law)
            left = left / left.sum(-1, keepdim=True)
            rest = torch.where(passed, p[:, node + 1].double(), torch.where(tried.unsqueeze(-1), left, rest))
        return walk.finish(rest, coins)
