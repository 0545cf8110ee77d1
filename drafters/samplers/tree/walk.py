"""Walking down a draft tree, all rows at once: which node each row has reached, its tests and its final token."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from drafters.probs import residual
from drafters.rng.coins import Coins, Key
from drafters.samplers.draft import ROOT, Draft, Verdict
from drafters.samplers.tree.siblings import Siblings


def families(draft: Draft) -> dict[int, list[int]]:
    """Parent -> its children in draw order, parents in topological order. A node has one parent in all rows that have it."""
    parents: dict[int, list[int]] = {}
    for node, parent in enumerate(draft.parent.amax(0).tolist()):  # ABSENT is below every parent
        if parent >= ROOT:
            parents.setdefault(parent, []).append(node)
    return dict(sorted(parents.items()))


class Walk:
    """State of one verification from the root downwards. Work over V is done only where some row stands, and for those rows."""

    def __init__(self, p: Tensor, draft: Draft, coins: Coins, key: Key):
        self.p, self.draft, self.coins, self.key = p, draft, coins, key
        self.live = key.position >= 0  # (B,)
        self.reached = torch.full_like(key.position, ROOT)  # (B,)
        self.depth = torch.zeros_like(key.position)
        self.path = torch.full((p.shape[0], max(1, draft.tokens.shape[1])), -1, dtype=torch.int64, device=p.device)
        self.owed: list[
            tuple[Tensor, Tensor]
        ] = []  # rows that stopped beside tested children, and the law of their next token

    def stops(self) -> Iterator[tuple[list[int], Tensor]]:
        """The families that are reached: children, and the rows int64 (R,) that stand at their parent and have any of them."""
        for parent, children in families(self.draft).items():
            has = (self.draft.tokens[:, children] >= 0).any(1)
            rows = (self.live & has & (self.reached == parent)).nonzero().squeeze(-1)
            if rows.numel():
                yield children, rows

    def laws(self, children: list[int], rows: Tensor) -> tuple[Tensor, Tensor]:
        """The target's law at the rows' nodes, fp64 (R, V), and the law their children were drawn from (R, V)."""
        node = torch.full_like(self.reached, -1)
        node[rows] = children[0]
        p = self.p[rows, self.reached[rows] + 1].double()
        return p, self.draft.laws.row(node)[rows]

    def test(self, node: int, rows: Tensor, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """Accept `node` with probability min(1, p(x) / q(x)) in those of the rows that still stand at its parent and have it.

        Laws (R, V) -> which rows were tested, bool (R,), and which passed and now stand at the node, bool (R,).
        """
        token = self.draft.tokens[rows, node]
        tested = (self.draft.parent[rows, node] == self.reached[rows]) & (token >= 0)
        position = torch.full_like(self.reached, -1)
        position[rows] = torch.where(tested, self.key.position[rows] + self.depth[rows], -1)
        chance = torch.zeros(2, position.shape[0], dtype=torch.float64, device=p.device)  # p(x), q(x)
        for which, law in enumerate((p, q)):
            chance[which, rows] = law.gather(-1, token.clamp(min=0).unsqueeze(-1)).squeeze(-1).double()
        key = self.key.at(position=position, node=node, purpose="accept")
        passed = self.coins.accept(chance[0], chance[1], key)[rows] & tested
        self.move(node, rows[passed])
        return tested, passed

    def move(self, node: int, rows: Tensor) -> None:
        """The rows int64 (R,) step down to `node`."""
        self.path[rows, self.depth[rows]] = node
        self.reached[rows] = node
        self.depth[rows] += 1

    def finish(self) -> Verdict:
        """Draw the token after the path: from what is owed where children failed, from p where there was none to test."""
        index = torch.arange(self.p.shape[0], device=self.p.device)
        law = self.p[index, self.reached + 1].double()
        for rows, owed in self.owed:
            law[rows] = owed
        position = torch.where(self.live, self.key.position + self.depth, -1)
        # Rows stop at different nodes; the round and the position already name the draw, so the node field stays 0.
        token = self.coins.draw(law, self.key.at(position=position, node=0, purpose="residual"))
        return Verdict(self.path, self.depth, token)


def recursive_rejection(p: Tensor, draft: Draft, coins: Coins, key: Key, siblings: Siblings) -> Verdict:
    """Try a node's children in draw order, each against what the earlier ones left over of the target's law.

    One rejection turns an owed law r into max(r - d, 0), d the law of the child that failed (Miao et al. 2023, theorem 4.2);
    a repeated token always fails and must take its share away all the same.
    """
    walk = Walk(p, draft, coins, key)
    for children, rows in walk.stops():
        rest, q = walk.laws(children, rows)
        stays = torch.ones_like(rows, dtype=torch.bool)
        for node, law in zip(children, siblings.laws(q, draft.tokens[rows][:, children]), strict=True):
            tested, passed = walk.test(node, rows, rest, law)
            stays &= ~passed
            if not bool(stays.any()):
                break
            left = residual(rest, law)
            left /= left.sum(-1, keepdim=True)
            rest = torch.where(tested.unsqueeze(-1), left, rest)
        walk.owed.append((rows[stays], rest[stays]))
    return walk.finish()
