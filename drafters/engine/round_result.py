"""A round's draft and verdict as the host needs them: slots, depths, paths, tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.samplers.draft import ABSENT, ROOT, Draft, Verdict


def slots_above(draft: Draft, committed: Tensor) -> Tensor:
    """The target's slot that each of root and nodes follows: int64 (B, M + 1)."""
    root = committed.unsqueeze(-1) - 1
    above = torch.where(draft.parent > ROOT, root + 1 + draft.parent, root)
    return torch.cat([root - 1, above], 1)


def depth(parents: list[int]) -> int:
    """Levels of one row's tree."""
    depths: list[int] = []
    for parent in parents:
        depths.append(0 if parent == ABSENT else 1 if parent == ROOT else depths[parent] + 1)
    return max(depths, default=0)


def to_host(draft: Draft, verdict: Verdict) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
    """Accepted paths, the drafted nodes' parents, and the tokens each row gained: from a GPU in one transfer."""
    if draft.tokens.device.type == "cpu":  # nothing to transfer: packing would take longer than reading
        accepted, last, drafted = verdict.accepted.tolist(), verdict.next_token.tolist(), draft.tokens.tolist()
        found = [row[:count] for row, count in zip(verdict.nodes.tolist(), accepted, strict=True)]
        gained = [[*(ids[node] for node in path), token] for ids, path, token in zip(drafted, found, last, strict=True)]
        return found, draft.parent.tolist(), gained
    nodes, width = draft.tokens.shape[1], verdict.nodes.shape[1]
    spelled = draft.tokens.gather(1, verdict.nodes.clamp(min=0)) if draft.tokens.shape[1] else verdict.nodes
    counts = torch.stack([verdict.accepted, verdict.next_token], 1)
    table = torch.cat([counts, draft.parent, verdict.nodes, spelled], 1).tolist()
    begin, tokens = 2 + nodes, 2 + nodes + width
    paths = [row[begin : begin + row[0]] for row in table]
    fresh = [[*row[tokens : tokens + row[0]], row[1]] for row in table]
    return paths, [row[2:begin] for row in table], fresh
