"""Traversal verification: decide a draft tree from its leaves upwards; block verification on a chain, RRS on certain drafts.

Weng et al. 2025 (arXiv 2505.12398). A node carries `mass`, the target's probability of the path to it relative to how it was drafted,
capped at one, and `law`, what the target still owes there. Children are visited first; a node is accepted if no child was.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from drafters.coins import Coins, Key
from drafters.probs import NEGLIGIBLE
from drafters.samplers.draft import ROOT, Draft, Verdict
from drafters.samplers.siblings import draw_without_replacement, earlier_siblings, later_siblings, one_hot, without


@dataclass(frozen=True)
class Traversal:
    """`children` says how siblings are drawn: "mixed" (one drawn, then the most likely), "without" or "with" replacement."""

    children: str = "mixed"
    needs_law: bool = True
    positional: bool = False
    tree: bool = True

    def __post_init__(self) -> None:
        if self.children not in ("mixed", "without", "with"):
            raise ValueError(f"traversal children must be 'mixed', 'without' or 'with', got {self.children!r}.")

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int = 1) -> Tensor:
        """(B, V) -> int64 (B, count) in draw order, -1 where the law holds too few tokens."""
        if self.children == "with":
            return torch.stack([coins.draw(q, key.at(draw=number)) for number in range(count)], 1)
        if self.children == "without":
            return draw_without_replacement(q, count, lambda law, number: coins.draw(law, key.at(draw=number)))
        top = torch.sort(q, dim=-1, descending=True, stable=True)
        best = torch.where(top.values[:, : count - 1] > 0, top.indices[:, : count - 1], -1)
        others = without(q, best, best >= 0) if count > 1 else q.double()
        empty = others.sum(-1) <= 0
        drawn = coins.draw(torch.where(empty.unsqueeze(-1), q.double(), others), key)
        return torch.cat([torch.where(empty, -1, drawn).unsqueeze(-1), best], 1)

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """See Verifier.verify. All rows of a batch must share one tree shape; rows may lack nodes."""
        search = _Search(self, p, draft, coins, key)
        start = torch.ones(p.shape[0], dtype=torch.float64, device=p.device)
        search.visit(ROOT, start, p[:, 0].double(), depth=0, path=[])
        position = torch.where(key.position >= 0, key.position + search.depth, -1)
        token = coins.draw(search.law, key.at(position=position, purpose="residual"))
        return Verdict(search.path, search.depth, token)

    def law_of(self, draft: Draft, node: int, q: Tensor) -> Tensor:
        """The law child `node` was drawn from, given its earlier siblings: fp64 (B, V)."""
        if self.children == "with":
            return q
        if self.children == "without":
            return without(q, draft.tokens, earlier_siblings(draft, node))
        first = ~earlier_siblings(draft, node).any(-1, keepdim=True)
        return torch.where(
            first, without(q, draft.tokens, later_siblings(draft, node)), one_hot(q, draft.tokens[:, node])
        )


class _Search:
    """Depth-first search of the shared tree; rows leave it as soon as a node accepts them."""

    def __init__(self, rule: Traversal, p: Tensor, draft: Draft, coins: Coins, key: Key):
        self.rule, self.p, self.draft, self.coins, self.key = rule, p, draft, coins, key
        self.shape = (
            draft.parent.amax(0).tolist() if draft.parent.shape[1] else []
        )  # a row's own parent is this one or ABSENT
        self.open_rows = key.position >= 0
        self.depth = torch.zeros_like(key.position)
        self.path = torch.full((p.shape[0], max(1, draft.tokens.shape[1])), -1, dtype=torch.int64, device=p.device)
        self.law = p[:, 0].double()  # of the token after the accepted path

    def visit(self, node: int, mass: Tensor, law: Tensor, depth: int, path: list[int]) -> None:
        """Try the subtree of `node` (ROOT first); `mass` (B,), `law` (B, V)."""
        for child in [index for index, parent in enumerate(self.shape) if parent == node]:
            present = self.open_rows & (self.draft.parent[:, child] == node) & (self.draft.tokens[:, child] >= 0)
            token = self.draft.tokens[:, child].clamp(min=0).unsqueeze(-1)
            q = self.rule.law_of(self.draft, child, self.draft.q.row(torch.where(present, child, -1)).double())
            q_x = q.gather(-1, token).squeeze(-1).clamp(min=torch.finfo(torch.float64).tiny)
            below = (mass * law.gather(-1, token).squeeze(-1) / q_x).clamp(max=1.0)
            before = self.open_rows
            self.open_rows = before & present  # rows without this child wait
            self.visit(child, below, self.p[:, child + 1].double(), depth + 1, [*path, child])
            failed = self.open_rows
            self.open_rows = failed | (before & ~present)
            mass, law = self._after(failed, mass, law, q)
        self._accept(node, mass, law, depth, path)

    @staticmethod
    def _after(failed: Tensor, mass: Tensor, law: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """What a node still owes after a child failed."""
        left = (mass.unsqueeze(-1) * law - q).clamp(min=0.0)
        total = left.sum(-1)
        denominator = total + 1.0 - mass
        rest = torch.where(denominator > NEGLIGIBLE, total / denominator.clamp(min=NEGLIGIBLE), 1.0)
        owed = torch.where((total > NEGLIGIBLE).unsqueeze(-1), left / total.clamp(min=NEGLIGIBLE).unsqueeze(-1), law)
        return torch.where(failed, rest, mass), torch.where(failed.unsqueeze(-1), owed, law)

    def _accept(self, node: int, mass: Tensor, law: Tensor, depth: int, path: list[int]) -> None:
        if node == ROOT:
            taken = self.open_rows
        else:
            # The coin belongs to the node's own position; earlier nodes' coins are untouched by a failure below them.
            position = torch.where(self.open_rows, self.key.position + depth - 1, -1)
            key = self.key.at(position=position, node=node, purpose="accept")
            taken = self.coins.accept(mass, torch.ones_like(mass), key) & self.open_rows
        if path:
            self.path[:, : len(path)] = torch.where(
                taken.unsqueeze(-1), self.path.new_tensor(path), self.path[:, : len(path)]
            )
        self.depth = torch.where(taken, depth, self.depth)
        self.law = torch.where(taken.unsqueeze(-1), law, self.law)
        self.open_rows = self.open_rows & ~taken
