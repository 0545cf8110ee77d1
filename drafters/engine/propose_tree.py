"""Drafting a tree level by level: one drafter forward over all nodes of a level, children drawn per node."""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.coins import Coins, Key
from drafters.engine.cache import Model
from drafters.engine.propose import Proposed, catch_up, drafting_law, draw_children, empty_draft
from drafters.engine.rows import Row
from drafters.engine.session import Pair
from drafters.probs import Sampling
from drafters.samplers.draft import ABSENT, MISS, ROOT, Draft, DrawnLaws, Sampler, Tree
from drafters.stop.policy import StopPolicy


def propose_tree(
    drafter: Model,
    pair: Pair,
    rows: list[Row],
    sampler: Sampler,
    stop: StopPolicy,
    sampling: Sampling,
    room: list[int],
    coins: Coins,
    key: Key,
) -> Proposed:
    """Draft the sampler's tree, no deeper than the stop policy and each row's `room` allow.

    Draws are keyed by the parent (its node number + 1, the root being 0) and the child's number.
    """
    assert isinstance(sampler.shape, Tree)
    device = key.position.device
    allowed, eos = torch.tensor(room, device=device), torch.tensor(pair.eos, dtype=torch.int64, device=device)
    laws, tokens, parents = DrawnLaws(sampler.token_proposal), list[Tensor](), list[Tensor]()
    level = [ROOT]  # node numbers of the parents
    alive = (allowed > 0).unsqueeze(-1)  # (B, parents): the parent can have children
    depths = torch.zeros_like(key.position)
    logits: Tensor | None = None
    fed = 0
    for depth, counts in enumerate(sampler.shape.levels[: max(0, min(stop.max_length, max(room)))]):
        go = (depths < allowed) & stop.should_continue(None, depths)
        alive = alive & go.unsqueeze(-1)
        if not bool(alive.any()):
            break
        if depth == 0:
            logits = catch_up(drafter, rows).unsqueeze(1)
        else:
            logits = _feed(drafter, pair, rows, tokens, parents, level)
            fed += len(level)
        children: list[int] = []
        for number, (parent, count) in enumerate(zip(level, counts, strict=True)):
            if count == 0:
                continue
            q = drafting_law(logits[:, number], sampler, sampling)  # (B, D)
            position = torch.where(alive[:, number], key.position + depth, -1)
            name = key.at(position=position, node=parent + 1, purpose="draft")
            law, drawn = draw_children(q, sampler, coins, name, count)
            drawn = torch.where(alive[:, number : number + 1], drawn, MISS)  # (B, children)
            laws.open(q)
            for child in drawn.unbind(1):
                children.append(len(tokens))
                tokens.append(child)
                parents.append(torch.where(child >= 0, parent, ABSENT))
                laws.append(law.gather(-1, child.clamp(min=0).unsqueeze(-1)).squeeze(-1) * (child >= 0))
        level = children
        drawn_level = torch.stack([tokens[node] for node in level], 1)
        alive = (
            (drawn_level >= 0)
            & (pair.feed_one(drawn_level.flatten()).view_as(drawn_level) >= 0)
            & ~torch.isin(drawn_level, eos)
        )
        depths = depths + 1
    if not tokens:
        return Proposed(empty_draft(len(rows), device, laws if sampler.verifier.needs_law else None), None)
    draft = Draft(torch.stack(tokens, 1), torch.stack(parents, 1), laws if sampler.verifier.needs_law else None)
    return Proposed(draft, fed)


def _feed(
    drafter: Model, pair: Pair, rows: list[Row], tokens: list[Tensor], parents: list[Tensor], level: list[int]
) -> Tensor:
    """Feed one level under its parents' slots: logits (B, nodes, D). Absent nodes are fed as junk below the root."""
    block = torch.stack([tokens[node] for node in level], 1)
    above = torch.stack([parents[node] for node in level], 1)
    begin = torch.tensor(
        [[row.fed] for row in rows], device=block.device
    )  # slot of node 0; the root's is the one before
    slots = torch.where(above >= 0, begin + above, begin - 1)
    logits = drafter.extend(pair.feed_one(block.flatten()).view_as(block).clamp(min=0), slots)
    assert logits is not None
    return logits
