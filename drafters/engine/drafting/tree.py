"""Drafting a tree level by level: one drafter forward over all nodes of a level, children drawn per node."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from drafters.engine.drafting.chain import Drafting, Proposed, catch_up, drafting_law, draw_children
from drafters.probs import picked
from drafters.rng.coins import Coins, Key
from drafters.samplers.draft import ABSENT, MISS, ROOT, DrawnLaws, Tree


@dataclass
class _Growth:
    """A tree in the making."""

    drafting: Drafting
    coins: Coins
    key: Key
    laws: DrawnLaws
    tokens: list[Tensor] = field(default_factory=list)  # per node int64 (B,)
    parents: list[Tensor] = field(default_factory=list)  # per node int64 (B,)

    def feed(self, level: list[int]) -> Tensor:
        """The drafter's logits (B, nodes, D) after the nodes of a level, fed under their parents; absent ones below the root."""
        block = torch.stack([self.tokens[node] for node in level], 1)
        above = torch.stack([self.parents[node] for node in level], 1)
        fed = [[row.fed] for row in self.drafting.rows]
        begin = torch.tensor(fed, device=block.device)  # slot of node 0; the root's is the one before
        return self.drafting.feed(block, torch.where(above >= 0, begin + above, begin - 1))

    def sprout(self, parent: int, count: int, logits: Tensor, alive: Tensor, depth: int) -> list[int]:
        """Draw `count` children of a node from logits (B, D) in the rows bool (B,) where it lives; their numbers.

        Keyed by the parent (its number + 1, the root being 0) and the child's number.
        """
        drafting = self.drafting
        q = drafting_law(logits, drafting.sampler, drafting.sampling)  # (B, D)
        position = torch.where(alive, self.key.position + depth, -1)
        name = self.key.at(position=position, node=parent + 1, purpose="draft")
        law, drawn = draw_children(q, drafting.sampler, self.coins, name, count)
        drawn = torch.where(alive.unsqueeze(-1), drawn, MISS)  # (B, children)
        chances = picked(law, drawn)
        above = torch.where(drawn >= 0, parent, ABSENT)
        self.laws.open(q)
        first = len(self.tokens)
        self.tokens.extend(drawn.unbind(1))
        self.parents.extend(above.unbind(1))
        for chance in chances.unbind(1):
            self.laws.append(chance)
        return list(range(first, len(self.tokens)))


def propose_tree(drafting: Drafting, room: list[int], coins: Coins, key: Key) -> Proposed:
    """Draft the sampler's tree, no deeper than the stop policy and each row's `room` allow."""
    shape, stop = drafting.sampler.shape, drafting.stop
    assert isinstance(shape, Tree)
    tree = _Growth(drafting, coins, key, drafting.laws())
    allowed = torch.tensor(room, device=key.position.device)
    alive = (allowed > 0).unsqueeze(-1)  # (B, parents): the parent can have children
    level, fed = [ROOT], 0  # node numbers of the parents
    for depth, counts in enumerate(shape.levels[: max(0, min(stop.max_length, max(room)))]):
        depths = torch.full_like(key.position, depth)
        alive = alive & ((depths < allowed) & stop.should_continue(None, depths)).unsqueeze(-1)
        if not bool(alive.any()):
            break
        if depth == 0:
            logits = catch_up(drafting.drafter, drafting.rows).unsqueeze(1)  # (B, parents, D)
        else:
            logits = tree.feed(level)
            fed += len(level)
        children = [
            child
            for number, (parent, count) in enumerate(zip(level, counts, strict=True))
            if count
            for child in tree.sprout(parent, count, logits[:, number], alive[:, number], depth)
        ]
        level = children
        alive = drafting.can_follow(torch.stack([tree.tokens[node] for node in level], 1))
    nodes = (torch.stack(tree.tokens, 1), torch.stack(tree.parents, 1)) if tree.tokens else None
    return drafting.proposed(nodes, tree.laws, fed)
