"""Host-side state of the requests in a batch: what is committed, what each model has been fed."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from drafters.engine.limits import Limits
from drafters.stop.features import UNKNOWN


@dataclass
class Row:
    """One request. `tokens` are committed target ids, prompt included; `stream` is the same text in drafter ids."""

    tokens: list[int]
    prompt: int
    stream: list[int] = field(default_factory=list)
    fed: int = 0  # tokens of `stream` in the drafter's cache
    drafting: bool = True  # False once the drafter's context is full
    finished: bool = False
    rounds: list[tuple[int, int, int]] = field(default_factory=list)  # (drafted, verified, accepted) per target forward
    past: tuple[float, float] = UNKNOWN  # streak and recent share of accepted drafts, see drafters.stop.features

    def commit(self, fresh: list[int], limits: Limits, eos: tuple[int, ...]) -> int:
        """Append tokens until the request ends; returns how many were appended."""
        before = len(self.tokens)
        self.tokens.extend(fresh)
        end = limits.cut(self.tokens[self.prompt :], len(fresh), eos)
        if end is not None:
            del self.tokens[self.prompt + end :]
            self.finished = True
        return len(self.tokens) - before

    def stop_drafting(self) -> None:
        """The drafter's context is full: from here on the row is decoded plainly and takes one slot of the drafter's cache."""
        self.drafting = False
        self.stream = self.stream[:1]

    def room(self, limits: Limits) -> int:
        """How many tokens may be drafted: the round's own next token takes the last place."""
        if self.finished or not self.drafting:
            return 0
        return self.prompt + limits.max_new_tokens - len(self.tokens) - 1


def padded(lists: list[list[int]], device: torch.device) -> tuple[Tensor, list[int]]:
    """Right-padded int64 (B, n) with PAD = -1, and the lengths."""
    counts = [len(ids) for ids in lists]
    width = max(counts)
    return torch.tensor([ids + [-1] * (width - len(ids)) for ids in lists], device=device, dtype=torch.int64), counts
