"""K-SEQ: i.i.d. children tested against a common scaled-down target, within 1 - 1/e of the best any rule can do.

Sun et al. 2023 (SpecTr, arXiv 2310.15141), algorithm 3: accept x with probability min(1, p(x) / (rho q(x))), rho the root of
1 - (1 - beta)^k = rho beta with beta = sum_x min(q, p / rho).
"""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.coins import Coins, Key
from drafters.probs import NEGLIGIBLE
from drafters.samplers.draft import Draft, Verdict
from drafters.samplers.walk import Walk

BISECTIONS = 60  # halvings of [1, k]: below fp64 resolution


def overlap(p: Tensor, q: Tensor, rho: Tensor) -> Tensor:
    """beta(rho) = sum_x min(q, p / rho): (B, V) x 2, (B,) -> (B,)."""
    return torch.minimum(q, p / rho.unsqueeze(-1)).sum(-1)


def solve_rho(p: Tensor, q: Tensor, count: Tensor) -> Tensor:
    """rho in [1, count] with 1 - (1 - beta)^count = rho beta: (B,). The smallest scale at which the rule is lossless."""
    low, high = torch.ones_like(count, dtype=torch.float64), count.double().clamp(min=1.0)
    for _ in range(BISECTIONS):
        rho = (low + high) / 2
        beta = overlap(p, q, rho)
        above = 1 - (1 - beta) ** count > rho * beta  # too much mass accepted: rho must grow
        low, high = torch.where(above, rho, low), torch.where(above, high, rho)
    return high  # the safe end: the accepted mass never exceeds p


class KSeq:
    """Children are drawn with replacement, a node's law once for all of them."""

    needs_law, positional, tree = True, False, True

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int = 1) -> Tensor:
        """(B, V) -> int64 (B, count), independent draws."""
        return torch.stack([coins.draw(q, key.at(draw=number)) for number in range(count)], 1)

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """See Verifier.verify."""
        walk = Walk(p, draft, key)
        here = p[:, 0].double()  # target law at the reached node
        rest = here.clone()  # law of the token after the path, if it ends here
        rho = torch.ones(p.shape[0], dtype=torch.float64, device=p.device)
        opened = torch.full_like(key.position, -2)  # the node whose children's rho is current
        for node in range(draft.tokens.shape[1]):
            tried = walk.reaches(node)
            law = draft.q.row(torch.where(tried, node, -1)).double()
            enter = tried & (opened != walk.reached)
            if bool(enter.any()):
                count = ((draft.parent == walk.reached.unsqueeze(-1)) & (draft.tokens >= 0)).sum(-1)
                solved = solve_rho(here, law, count)
                left = self._residual(here, law, solved, count)
                rho = torch.where(enter, solved, rho)
                rest = torch.where(enter.unsqueeze(-1), left, rest)
                opened = torch.where(enter, walk.reached, opened)
            passed = walk.test(node, tried, here, law * rho.unsqueeze(-1), coins).unsqueeze(-1)
            here = torch.where(passed, p[:, node + 1].double(), here)
            rest = torch.where(passed, here, rest)
        return walk.finish(rest, coins)

    @staticmethod
    def _residual(p: Tensor, q: Tensor, rho: Tensor, count: Tensor) -> Tensor:
        """p minus the accepted mass min(q, p / rho) (1 - (1 - beta)^k) / beta; p itself where nothing can be accepted."""
        beta = overlap(p, q, rho)
        scale = torch.where(beta > 0, (1 - (1 - beta) ** count) / beta.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
        left = (p - torch.minimum(q, p / rho.unsqueeze(-1)) * scale.unsqueeze(-1)).clamp(min=0.0)
        return torch.where(left.sum(-1, keepdim=True) > NEGLIGIBLE, left, p)
