"""Exponential-race speculative decoding (ERSD): drafter and target run their races on the same noise.

Kobus and Gunduz 2025 (arXiv 2504.15475); one draft: Daliri et al. 2024 (arXiv 2408.07978). With E i.i.d. Exp(1) per
position and token, argmin E / p has distribution p. The target's winner is always the output, whatever was drafted, so
no draft distribution is needed, nothing is resampled, and the output is that of plain race decoding bit by bit; the
draft only decides how far one forward reaches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.rng.coins import Coins, Key
from drafters.samplers.draft import ROOT, Draft, Verdict, Verifier


class Race(Verifier):
    """Children are the first arrivals of q's race at their position; nodes of one depth share its noise."""

    needs_law, positional, tree, coupled, stepwise = False, True, True, True, True
    scheme = "without_replacement"  # the first arrivals of a race are successive draws

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int = 1) -> Tensor:
        """(B, V) -> int64 (B, count) in order of arrival, -1 where q has fewer tokens. The key's position alone counts."""
        return coins.winners(key.position, q, count)

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """See Verifier.verify: descend while the winner at the reached node is one of its children."""
        rows = torch.arange(p.shape[0], device=p.device)
        live = key.position >= 0  # (B,) all of one depth
        reached = torch.full_like(key.position, ROOT)
        next_token = torch.zeros_like(key.position)
        path = reached.new_empty(p.shape[0], 0)
        while True:
            position = torch.where(live, key.position + path.shape[1], -1)
            winner = coins.winners(position, p[rows, reached + 1])[:, 0]
            next_token = torch.where(live, winner, next_token)
            match = (draft.parent == reached.unsqueeze(-1)) & (draft.tokens == winner.unsqueeze(-1))  # (B, M)
            live = live & match.any(-1)
            if not bool(live.any()):
                return Verdict(path, (path >= 0).sum(-1), next_token)
            reached = torch.where(live, match.int().argmax(-1), reached)
            path = torch.cat([path, torch.where(live, reached, -1).unsqueeze(-1)], 1)
