"""Speculative sampling by rejection: the standard lossless rule for a chain of drafted tokens.

Leviathan et al. 2023 (arXiv 2211.17192), algorithm 1; Chen et al. 2023 (arXiv 2302.01318), theorem 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.probs import picked, residual
from drafters.rng.coins import Coins, Key
from drafters.samplers.draft import Draft, Verdict, Verifier


class Rejection(Verifier):
    """Accept token x with probability min(1, p(x) / q(x)); at the first rejection draw from max(p - q, 0)."""

    stepwise, tensors_only = True, True

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """Accept while u q(x) < p(x), left to right; see `Verifier.verify` for shapes."""
        tokens, present = draft.tokens, draft.present  # (B, M)
        nodes = torch.arange(tokens.shape[1], device=tokens.device)
        p_x = picked(p[:, :-1], tokens.unsqueeze(-1)).squeeze(-1)
        position = torch.where(present, key.position.unsqueeze(-1) + nodes, -1)
        passed = coins.accept(p_x, draft.laws.at(tokens), key.at(position=position, node=nodes, purpose="accept"))
        accepted = passed.sum(-1)  # a miss or an absent node has p_x = 0 and never passes

        rejected = torch.where(accepted < present.sum(-1), accepted, -1)  # the node whose q the residual takes away
        target = p[torch.arange(p.shape[0], device=p.device), accepted]  # (B, V)
        law = residual(target, draft.laws.row(rejected))
        next_token = coins.draw(
            law, key.at(position=torch.where(key.position >= 0, key.position + accepted, -1), purpose="residual")
        )
        return Verdict(torch.where(nodes < accepted.unsqueeze(-1), nodes, -1), accepted, next_token)
