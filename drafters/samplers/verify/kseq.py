"""K-SEQ: i.i.d. children tested against a common scaled-down target, within 1 - 1/e of the best any rule can do.

Sun et al. 2023 (SpecTr, arXiv 2310.15141), algorithm 3: accept x with probability min(1, p(x) / (rho q(x))), rho the root of
1 - (1 - beta)^k = rho beta with beta = sum_x min(q, p / rho).
"""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.probs import NEGLIGIBLE
from drafters.rng.coins import Coins, Key
from drafters.samplers.draft import Draft, Verdict, Verifier
from drafters.samplers.tree.walk import Walk

HALVINGS = 32  # of [1, k]: acceptance to 1e-9. Any rho above the root is lossless, so precision costs acceptance only


def solve_rho(p: Tensor, q: Tensor, count: Tensor) -> Tensor:
    """The smallest lossless scale rho in [1, count], fp64 (R,), of p and q, fp64 (R, V), and int64 (R,) children."""
    low, high = torch.ones_like(count, dtype=torch.float64), count.double()
    smaller = torch.empty_like(p)  # one buffer: allocating a row costs more than filling it
    for _ in range(HALVINGS):
        rho = (low + high) / 2
        torch.minimum(q, torch.mul(p, (1 / rho).unsqueeze(-1), out=smaller), out=smaller)
        beta = smaller.sum(-1)
        unsafe = 1 - (1 - beta) ** count > rho * beta  # more would be accepted than p has
        low, high = torch.where(unsafe, rho, low), torch.where(unsafe, high, rho)
    return high


def left_over(p: Tensor, q: Tensor, rho: Tensor, count: Tensor) -> Tensor:
    """p minus the accepted mass min(q, p / rho) (1 - (1 - beta)^k) / beta, fp64 (R, V); p where nothing is left or accepted."""
    taken = torch.minimum(q, p / rho.unsqueeze(-1))
    beta = taken.sum(-1)
    scale = torch.where(beta > 0, (1 - (1 - beta) ** count) / beta.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
    left = (p - taken * scale.unsqueeze(-1)).clamp_(min=0.0)
    return torch.where(left.sum(-1, keepdim=True) > NEGLIGIBLE, left, p)


class KSeq(Verifier):
    """Children are drawn with replacement, a node's distribution once for all of them."""

    tree = True

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """Test all children of a node against q rho, rho solved per node; see `Verifier.verify` for shapes."""
        walk = Walk(p, draft, coins, key)
        for children, rows in walk.stops():
            target, q = walk.laws(children, rows)
            q = q.double()
            count = (draft.tokens[rows][:, children] >= 0).sum(-1)
            rho = solve_rho(target, q, count)
            scaled = q * rho.unsqueeze(-1)
            stays = torch.ones_like(rows, dtype=torch.bool)
            for node in children:
                stays &= ~walk.test(node, rows, target, scaled)[1]
            walk.owed.append((rows[stays], left_over(target, q, rho, count)[stays]))
        return walk.finish()
