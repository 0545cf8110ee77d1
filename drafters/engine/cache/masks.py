"""Which slots of a cache a new token attends to, as additive masks: chains by length, trees by ancestry."""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.engine.compiled.block_attention import as_chain


def additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """bool (B, n, width) -> (B, 1, n, width), 0 or the lowest number: a bool mask is silently wrong under eager attention."""
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min).unsqueeze(1)


class Stairs:
    """Masks of chains that all begin at one slot: windows of one array made once, for blocks of at most `longest` tokens."""

    def __init__(self, capacity: int, longest: int, dtype: torch.dtype, device: torch.device):
        self.capacity = capacity
        places = torch.arange(capacity + longest, device=device)
        seen = places <= capacity + torch.arange(longest, device=device).unsqueeze(-1)
        self.steps = additive(seen.unsqueeze(0), dtype)  # (1, 1, longest, capacity + longest)

    def mask(self, begin: int, n: int) -> Tensor:
        """The mask of `n` tokens in the slots from `begin` on: (1, 1, n, begin + n)."""
        start = self.capacity - begin
        return as_chain(self.steps[:, :, :n, start : start + begin + n])


class TreeMasks:
    """Ancestors and positions of the slots fed since the last keep; below `base` (B,) every row is a chain."""

    def __init__(self, base: Tensor):
        self.base = base.unsqueeze(-1)  # (B, 1)
        self.rows = torch.arange(base.shape[0], device=base.device)
        # (B, P, P), itself included
        self.ancestors = torch.zeros(base.shape[0], 0, 0, dtype=torch.bool, device=base.device)
        self.position = torch.zeros(base.shape[0], 0, dtype=torch.int64, device=base.device)  # (B, P)

    def grow(self, slots: Tensor, parents: Tensor) -> Tensor:
        """Add the slots (B, n), which follow those added before, under the slots `parents`; returns their positions (B, n)."""
        old, n = self.position.shape[1], slots.shape[1]
        self.ancestors = torch.nn.functional.pad(self.ancestors, (0, n, 0, n))
        self.position = torch.nn.functional.pad(self.position, (0, n))
        inner = parents - self.base  # (B, n) index of the parent among the added slots, negative inside the chain
        for column in range(n):  # a node's parent may be in the same block, so one after another
            index, parent = old + column, inner[:, column]
            inside = parent >= 0
            known = self.ancestors[self.rows, parent.clamp(min=0)] & inside.unsqueeze(-1)
            known[:, index] = True
            self.ancestors[:, index] = known
            above = torch.where(inside, self.position[self.rows, parent.clamp(min=0)], parents[:, column])
            self.position[:, index] = above + 1
        return self.position[:, old:]

    def seen(self, slots: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """What each slot (B, n) attends to, bool (B, n, width), and the positions of all keys (B, 1, width)."""
        inner = key - self.base  # (B, width)
        place = inner.clamp(0, self.position.shape[1] - 1)
        chain = inner < 0
        # (B, n, P)
        queries = self.ancestors.gather(1, (slots - self.base).unsqueeze(-1).expand(-1, -1, self.ancestors.shape[2]))
        allowed = queries.gather(2, place.unsqueeze(1).expand(-1, slots.shape[1], -1))
        beyond = inner >= self.position.shape[1]
        seen = chain.unsqueeze(1) | (allowed & ~beyond.unsqueeze(1))
        return seen, torch.where(chain, key, self.position.gather(1, place)).unsqueeze(1)
