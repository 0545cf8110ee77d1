"""Accept drafted tokens while they equal the target's own samples: lossless for any draft, wherever it came from.

The rule behind string-level exact match (Timor et al. 2025, algorithm 2) and greedy speculative decoding (Stern et al. 2018).
"""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.rng.coins import Coins, Key
from drafters.samplers.draft import Draft, Verdict, Verifier


class ExactMatch(Verifier):
    """Emit y ~ p at every position until y differs from the draft; coins depend on the position alone."""

    needs_law, positional, stepwise, tensors_only = False, True, True, True

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """See Verifier.verify. Each row draws until its first mismatch and not beyond."""
        alive = key.position >= 0  # (B,)
        accepted = torch.zeros_like(key.position)
        next_token = torch.zeros_like(key.position)
        for depth in range(p.shape[1]):
            position = torch.where(alive, key.position + depth, -1)
            sample = coins.draw(p[:, depth], key.at(position=position, round=None, purpose="bonus"))
            next_token = torch.where(alive, sample, next_token)
            if depth < draft.tokens.shape[1]:
                alive = alive & (sample == draft.tokens[:, depth])
                accepted = accepted + alive
        nodes = torch.arange(draft.tokens.shape[1], device=p.device)
        return Verdict(torch.where(nodes < accepted.unsqueeze(-1), nodes, -1), accepted, next_token)
