"""Traversal verification: decide a draft tree from its leaves upwards; block verification on a chain, RRS on certain drafts.

Weng et al. 2025 (arXiv 2505.12398). A node carries `mass`, the target's probability of the path to it relative to how it was drafted,
capped at one, and `law`, what the target still owes there. Children are visited first; a node is accepted if no child was.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from drafters.probs import NEGLIGIBLE
from drafters.rng.coins import Coins, Key
from drafters.samplers.draft import ROOT, Draft, Verdict
from drafters.samplers.tree.siblings import OneDrawnThenTop, Siblings, SiblingVerifier
from drafters.samplers.tree.walk import families

_TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class Traversal(SiblingVerifier):
    """Traversal verification of children drawn in any way, as `siblings` says."""

    siblings: Siblings = field(default_factory=OneDrawnThenTop)

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """See Verifier.verify. Coins of tests behind the accepted path are used too: keys must name the round."""
        search = _Search(self.siblings, p, draft, coins, key)
        search.visit(ROOT, torch.ones(p.shape[0], dtype=torch.float64, device=p.device), [])
        position = torch.where(key.position >= 0, key.position + search.depth, -1)
        token = coins.draw(search.law, key.at(position=position, purpose="residual"))
        return Verdict(search.path, search.depth, token)


class _Search:
    """Depth-first search of the tree; rows leave it as soon as a node accepts them."""

    def __init__(self, siblings: Siblings, p: Tensor, draft: Draft, coins: Coins, key: Key):
        self.siblings, self.p, self.draft, self.coins, self.key = siblings, p, draft, coins, key
        self.families = families(draft)
        self.open = key.position >= 0  # (B,) rows that are at the node being visited
        self.depth = torch.zeros_like(key.position)
        self.path = torch.full((p.shape[0], max(1, draft.tokens.shape[1])), -1, dtype=torch.int64, device=p.device)
        self.law = p[:, 0].to(torch.float64, copy=True)  # of the token after the accepted path; written below

    def visit(self, node: int, mass: Tensor, path: list[int]) -> None:
        """Try the subtree of `node` (ROOT first) for the open rows; `mass` fp64 (B,)."""
        law = self.p[:, node + 1]  # (B, V)
        children = self.families.get(node, [])
        if children and bool((self.open.unsqueeze(-1) & (self.draft.tokens[:, children] >= 0)).any()):
            mass, law = self._descend(children, mass, law.double(), path)
        self._accept(node, mass, law, path)

    def _descend(self, children: list[int], mass: Tensor, law: Tensor, path: list[int]) -> tuple[Tensor, Tensor]:
        """Visit the children; what is owed at the node in the rows that no child accepted: fp64 (B,), (B, V)."""
        tokens = self.draft.tokens[:, children]
        q = self.draft.laws.row(torch.full_like(self.depth, children[0]))
        for child, drawn_from in zip(children, self.siblings.laws(q, tokens), strict=True):
            has = self.draft.tokens[:, child] >= 0
            token = self.draft.tokens[:, child].clamp(min=0).unsqueeze(-1)
            chance = drawn_from.gather(-1, token).squeeze(-1).clamp(min=_TINY)
            below = (mass * law.gather(-1, token).squeeze(-1) / chance).clamp(max=1.0)
            waiting = self.open & ~(has & (below > 0))  # without the child, or with one that cannot be accepted
            self.open = self.open & ~waiting
            if bool(self.open.any()):
                self.visit(child, below, [*path, child])
            self.open = self.open | waiting
            mass, law = self._after(self.open & has, mass, law, drawn_from)
        return mass, law

    @staticmethod
    def _after(failed: Tensor, mass: Tensor, law: Tensor, drawn_from: Tensor) -> tuple[Tensor, Tensor]:
        """What a node owes after a child failed in the rows `failed`."""
        if not bool(failed.any()):
            return mass, law
        left = (mass.unsqueeze(-1) * law - drawn_from).clamp_(min=0.0)
        total = left.sum(-1)
        denominator = total + 1.0 - mass
        rest = torch.where(denominator > NEGLIGIBLE, total / denominator.clamp(min=NEGLIGIBLE), 1.0)
        left /= total.clamp(min=NEGLIGIBLE).unsqueeze(-1)
        owed = failed & (total > NEGLIGIBLE)
        return torch.where(failed, rest, mass), torch.where(owed.unsqueeze(-1), left, law)

    def _accept(self, node: int, mass: Tensor, law: Tensor, path: list[int]) -> None:
        taken = self.open
        if node != ROOT:
            # The coin belongs to the node's own position; earlier nodes' coins are untouched by a failure below them.
            position = torch.where(self.open, self.key.position + len(path) - 1, -1)
            key = self.key.at(position=position, node=node, purpose="accept")
            taken = self.coins.accept(mass, torch.ones_like(mass), key) & self.open
        rows = taken.nonzero().squeeze(-1)
        if path:
            self.path[rows, : len(path)] = self.path.new_tensor(path)
        self.depth[rows] = len(path)
        self.law[rows] = law[rows].double()
        self.open = self.open & ~taken
