"""Tunstall shapes: the draft tree of a node budget that holds the likeliest paths, for a given distribution of ranks.

Kobus and Gunduz 2025 (arXiv 2504.15475): if the target's token is a node's r-th child with probability rho_r, whatever
the node, a node is accepted with the product of rho along its path, and the best tree of K nodes holds the K likeliest;
grown like the parse tree of Tunstall's code (1967).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import accumulate

from drafters.samplers.draft import Tree

Path = tuple[int, ...]  # ranks from the root, 0 = first child


def tunstall(rank_law: Sequence[float], nodes: int, depth: int | None = None) -> Tree:
    """The tree of at most `nodes` nodes, fewer if the distribution has too few ranks, and at most `depth` levels.

    O(nodes log nodes). Raises ValueError unless nodes and depth are >= 1 and the distribution holds numbers >= 0 with
    sum <= 1, the first > 0.
    """
    _check(rank_law, nodes, depth)
    # A child cannot be drafted without those before it, so none may look more urgent than they do.
    rho = list(accumulate(rank_law, min))
    waiting: list[tuple[float, Path, float]] = [(-rho[0], (0,), -1.0)]  # (-value, path, -value of the parent)
    tree: set[Path] = set()
    while waiting and len(tree) < nodes:
        value, path, above = heapq.heappop(waiting)
        tree.add(path)
        if len(path) != depth and value * rho[0] < 0:
            heapq.heappush(waiting, (value * rho[0], (*path, 0), value))
        rank = path[-1] + 1
        if rank < len(rho) and rho[rank] > 0:
            heapq.heappush(waiting, (above * rho[rank], (*path[:-1], rank), above))
    return _shape(tree)


def _shape(tree: set[Path]) -> Tree:
    """Children of each path, breadth first; siblings are in order of rank, which sorting by path gives."""
    children = dict.fromkeys([(), *tree], 0)
    for path in tree:
        children[path[:-1]] += 1
    levels = [
        [children[path] for path in sorted(children) if len(path) == depth] for depth in range(max(map(len, tree)))
    ]
    return Tree(tuple(map(tuple, levels)))


def _check(rank_law: Sequence[float], nodes: int, depth: int | None) -> None:
    if nodes < 1 or (depth is not None and depth < 1):
        raise ValueError(f"a Tunstall shape needs nodes >= 1 and depth >= 1 (or None), got {nodes} and {depth}.")
    # Measured distributions are written with a few digits, which may sum to a little more than one.
    if not rank_law or not rank_law[0] > 0 or not all(share >= 0 for share in rank_law) or sum(rank_law) > 1.001:
        raise ValueError(f"rank_law must hold probabilities with sum <= 1, the first one > 0, got {list(rank_law)}.")
