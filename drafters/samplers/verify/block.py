"""Block verification: decide a whole chain at once instead of token by token; optimal among single-chain verifiers.

Sun et al. 2024 (arXiv 2403.10444), algorithm 2. P_i = min(1, P_{i-1} p_i(x_i) / q_i(x_i)) is the mass the target gives to the first i
tokens, capped; the longest prefix whose own test succeeds is accepted, whatever failed before it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.probs import NEGLIGIBLE
from drafters.rng.coins import Coins, Key
from drafters.samplers.draft import Draft, Verdict, Verifier

_TINY = torch.finfo(torch.float64).tiny


class Block(Verifier):
    """Accept tau = max{i : u_i < h_i}, then draw from max(P_tau p - q, 0)."""

    tensors_only = True

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """See Verifier.verify. The coins of tests that lie before the accepted prefix are used too: keys must name the round."""
        count = draft.present.sum(-1)  # (B,) tokens of each chain
        weights, chances = prefix_chances(p, draft, count)  # (B, M + 1) each
        accepted = torch.zeros_like(count)
        undecided = key.position >= 0
        for tau in range(draft.tokens.shape[1], 0, -1):  # the first success from the right decides a row
            position = torch.where(undecided & (tau <= count), key.position + tau - 1, -1)
            name = key.at(position=position, node=tau - 1, purpose="accept")
            passed = coins.accept(chances[:, tau], torch.ones_like(chances[:, tau]), name) & (position >= 0)
            accepted = torch.where(passed, tau, accepted)
            undecided = undecided & ~passed

        rows = torch.arange(p.shape[0], device=p.device)
        target = p[rows, accepted].double()  # (B, V)
        q = draft.laws.row(torch.where(accepted < count, accepted, -1))
        law = (weights[rows, accepted].unsqueeze(-1) * target - q).clamp_(min=0.0)
        law = torch.where((accepted < count).unsqueeze(-1) & (law.sum(-1, keepdim=True) > NEGLIGIBLE), law, target)
        position = torch.where(key.position >= 0, key.position + accepted, -1)
        next_token = coins.draw(law, key.at(position=position, purpose="residual"))
        nodes = torch.arange(draft.tokens.shape[1], device=p.device)
        return Verdict(torch.where(nodes < accepted.unsqueeze(-1), nodes, -1), accepted, next_token)


def prefix_chances(p: Tensor, draft: Draft, count: Tensor) -> tuple[Tensor, Tensor]:
    """P_i and h_i for i = 0..M, fp64 (B, M + 1) each; `count` int64 (B,) tokens of each chain. A miss ends a prefix: P = 0.

    h_i = Z_i / (Z_i + 1 - P_i) with Z_i = sum_x max(P_i p(x) - q(x), 0), and P_i at the end of the chain.
    """
    drawn_with = draft.laws.at(draft.tokens)
    prefix = torch.ones(p.shape[0], dtype=torch.float64, device=p.device)
    weights, chances = [prefix], []
    for node in range(draft.tokens.shape[1]):
        q = draft.laws.row(torch.where(node < count, node, -1))
        rest = torch.sub(prefix.unsqueeze(-1) * p[:, node], q).clamp_(min=0.0).sum(-1)
        whole = rest + 1.0 - prefix
        partial = torch.where(whole > NEGLIGIBLE, rest / whole.clamp(min=NEGLIGIBLE), 1.0)
        chances.append(torch.where(count == node, prefix, partial))
        token = draft.tokens[:, node]
        p_x = p[:, node].gather(-1, token.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        ratio = p_x.double() / drawn_with[:, node].clamp(min=_TINY)
        prefix = torch.where(token >= 0, (prefix * ratio).clamp(max=1.0), 0.0)
        weights.append(prefix)
    return torch.stack(weights, 1), torch.stack([*chances, prefix], 1)
