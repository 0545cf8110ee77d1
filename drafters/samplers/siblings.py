"""The laws that siblings of a draft tree were drawn from, one after another, out of their parent's law. Pure functions."""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.samplers.draft import ABSENT, Draft


def earlier_siblings(draft: Draft, node: int) -> Tensor:
    """Which nodes precede `node` among its parent's children: bool (B, M)."""
    same = (draft.parent == draft.parent[:, node : node + 1]) & (draft.parent[:, node : node + 1] > ABSENT)
    return same & (torch.arange(draft.parent.shape[1], device=draft.parent.device) < node)


def later_siblings(draft: Draft, node: int) -> Tensor:
    """Which nodes follow `node` among its parent's children: bool (B, M)."""
    same = (draft.parent == draft.parent[:, node : node + 1]) & (draft.parent[:, node : node + 1] > ABSENT)
    return same & (torch.arange(draft.parent.shape[1], device=draft.parent.device) > node)


def without(law: Tensor, tokens: Tensor, which: Tensor) -> Tensor:
    """`law` (B, V) with the tokens (B, M) marked in `which` taken out, renormalised in fp64; a zero row where nothing is left."""
    marked = (which & (tokens >= 0)).to(torch.int32)
    drop = (
        torch.zeros_like(law, dtype=torch.int32).scatter_add_(1, tokens.clamp(min=0), marked) > 0
    )  # adds: a token may stand twice
    left = law.double().masked_fill(drop, 0.0)
    total = left.sum(-1, keepdim=True)
    return torch.where(total > 0, left / total.clamp(min=torch.finfo(torch.float64).tiny), left)


def one_hot(law: Tensor, token: Tensor) -> Tensor:
    """fp64 (B, V): all mass on `token` (B,)."""
    return torch.zeros_like(law, dtype=torch.float64).scatter_(1, token.clamp(min=0).unsqueeze(-1), 1.0)


def draw_without_replacement(law: Tensor, count: int, draw_one) -> Tensor:
    """`count` successive draws, each from the law renormalised without the tokens drawn before: (B, V) -> int64 (B, count).

    `draw_one(law, number)` draws a token per row. -1 where nothing is left to draw.
    """
    tokens: list[Tensor] = []
    rest = law.double().clone()
    for number in range(count):
        empty = rest.sum(-1) <= 0
        token = draw_one(torch.where(empty.unsqueeze(-1), law.double(), rest), number)
        tokens.append(torch.where(empty, -1, token))
        rest.scatter_(1, token.unsqueeze(-1), 0.0)
    return torch.stack(tokens, 1)
