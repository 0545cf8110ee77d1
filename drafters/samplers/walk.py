"""Walking down a draft tree, all rows at once: which node each row has reached, its tests and its final token."""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.coins import Coins, Key
from drafters.samplers.draft import ROOT, Draft, Verdict


class Walk:
    """State of one verification. Nodes are visited in index order: parents come first, siblings in draw order."""

    def __init__(self, p: Tensor, draft: Draft, key: Key):
        self.draft, self.key = draft, key
        self.live = key.position >= 0  # (B,)
        self.reached = torch.full_like(key.position, ROOT)  # (B,)
        self.depth = torch.zeros_like(key.position)
        self.path = torch.full((p.shape[0], max(1, draft.tokens.shape[1])), -1, dtype=torch.int64, device=p.device)

    def reaches(self, node: int) -> Tensor:
        """bool (B,): the row stands at `node`'s parent and has the node."""
        return self.live & (self.draft.parent[:, node] == self.reached) & (self.draft.tokens[:, node] >= 0)

    def test(self, node: int, tried: Tensor, p: Tensor, q: Tensor, coins: Coins) -> Tensor:
        """Accept `node` with probability min(1, p(x) / q(x)) in the rows `tried`; rows that pass stand there: bool (B,)."""
        token = self.draft.tokens[:, node].clamp(min=0).unsqueeze(-1)
        position = torch.where(tried, self.key.position + self.depth, -1)
        key = self.key.at(position=position, node=node, purpose="accept")
        passed = coins.accept(p.gather(-1, token).squeeze(-1), q.gather(-1, token).squeeze(-1), key) & tried
        self.move(node, passed)
        return passed

    def move(self, node: int, passed: Tensor) -> None:
        """Rows in `passed` step down to `node`."""
        rows = torch.arange(passed.shape[0], device=passed.device)
        self.path[rows, self.depth] = torch.where(passed, node, self.path[rows, self.depth])
        self.reached = torch.where(passed, node, self.reached)
        self.depth = self.depth + passed

    def finish(self, law: Tensor, coins: Coins) -> Verdict:
        """Draw the token after the path from `law` (B, V)."""
        position = torch.where(self.live, self.key.position + self.depth, -1)
        # Rows stop at different nodes; the round and the position already name the draw, so the node field stays 0.
        token = coins.draw(law, self.key.at(position=position, node=0, purpose="residual"))
        return Verdict(self.path, self.depth, token)
