"""Block verification: decide a whole chain at once instead of token by token; optimal among single-chain verifiers.

Sun et al. 2024 (arXiv 2403.10444), algorithm 2. P_i = min(1, P_{i-1} p_i(x_i) / q_i(x_i)) is the mass the target gives to the first i
tokens, capped; the longest prefix whose own test succeeds is accepted, whatever failed before it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.coins import Coins, Key
from drafters.probs import NEGLIGIBLE
from drafters.samplers.draft import Draft, Verdict


class Block:
    """Accept tau = max{i : u_i < h_i}, then draw from max(P_tau p - q, 0)."""

    needs_law, positional, tree = True, False, False

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int = 1) -> Tensor:
        """(B, V) -> int64 (B, 1)."""
        return coins.draw(q, key).unsqueeze(-1)

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """See Verifier.verify. The coins of tests that lie before the accepted prefix are used too: keys must name the round."""
        rows, length = draft.tokens.shape
        count = draft.present.sum(-1)  # (B,) tokens of each chain
        q_x = draft.q.at(draft.tokens)  # (B, M)
        prefix = torch.ones(rows, dtype=torch.float64, device=p.device)  # P_i
        weights, laws = [prefix], []  # P_0 .. P_M and the residual laws of tau = 0 .. M
        for node in range(length):
            token = draft.tokens[:, node].clamp(min=0).unsqueeze(-1)
            drawn_from = draft.q.row(torch.where(node < count, node, -1))
            laws.append((prefix.unsqueeze(-1) * p[:, node].double() - drawn_from.double()).clamp_(min=0.0))
            ratio = p[:, node].gather(-1, token).squeeze(-1).double() / q_x[:, node].clamp(
                min=torch.finfo(torch.float64).tiny
            )
            prefix = torch.where(draft.tokens[:, node] >= 0, (prefix * ratio).clamp(max=1.0), 0.0)
            weights.append(prefix)
        accepted = torch.zeros_like(count)
        open_rows = key.position >= 0
        for tau in range(
            length, 0, -1
        ):  # the longest prefix first: a row is decided by its first success from the right
            rest = laws[tau].sum(-1) if tau < length else torch.zeros_like(prefix)
            lost = 1.0 - weights[tau]
            partial = torch.where(rest + lost > NEGLIGIBLE, rest / (rest + lost).clamp(min=NEGLIGIBLE), 1.0)
            chance = torch.where(count == tau, weights[tau], partial)
            position = torch.where(open_rows & (tau <= count), key.position + tau - 1, -1)
            passed = coins.accept(
                chance, torch.ones_like(chance), key.at(position=position, node=tau - 1, purpose="accept")
            ) & (position >= 0)
            accepted = torch.where(passed, tau, accepted)
            open_rows = open_rows & ~passed
        index = torch.arange(rows, device=p.device)
        row = p[index, accepted].double()
        stacked = torch.stack([*laws, row]) if laws else row.unsqueeze(0)
        law = torch.where((accepted < count).unsqueeze(-1), stacked[accepted, index], row)
        law = torch.where(law.sum(-1, keepdim=True) > NEGLIGIBLE, law, row)
        position = torch.where(key.position >= 0, key.position + accepted, -1)
        next_token = coins.draw(law, key.at(position=position, purpose="residual"))
        nodes = torch.arange(length, device=p.device)
        return Verdict(torch.where(nodes < accepted.unsqueeze(-1), nodes, -1), accepted, next_token)
