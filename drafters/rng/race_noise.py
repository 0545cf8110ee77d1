"""The exponentials E that drafter and target share at a position, and the race min E / law that they decide.

Kobus and Gunduz 2025 (arXiv 2504.15475); Daliri et al. 2024 (arXiv 2408.07978). E is i.i.d. Exp(1) over token ids, but made
block by block from the top: the least of BLOCK exponentials is Exp(BLOCK), it belongs to each with equal probability, and
given it the others exceed it by Exp(1) again (no memory). So a block's minimum bounds what its tokens can still reach, and a
race over V tokens needs V / BLOCK minima and the noise of the few tokens that can win, with the very result of the full race.
"""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.rng.counter_hash import FIRST, STEP, exponential, mix

BLOCK = 64  # balances V / BLOCK minima against about BLOCK candidates; part of the noise: changing it changes outputs
_BITS = 6


class SharedNoise:
    """The noise of B positions; `base` int64 (B,) is each one's hash of seed, request and position."""

    def __init__(self, base: Tensor):
        self.base = base

    def exponentials(self, ids: Tensor) -> Tensor:
        """E of the target ids int64 (n,): fp64 (B, n), > 0 and finite. Never depends on which ids are asked for."""
        blocks, inverse = torch.unique_consecutive(ids >> _BITS, return_inverse=True)
        minimum, holder = _minima(self.base.unsqueeze(-1), blocks)
        return _token(self.base.unsqueeze(-1), ids, minimum[:, inverse], holder[:, inverse])

    def winners(self, law: Tensor, count: int = 1, rows: Tensor | None = None) -> Tensor:
        """The `count` tokens of smallest E / law, first one first: (B, V) -> int64 (B, count), -1 where the law has fewer.

        `rows` bool (B,): the rows to decide, None for all; the others get -1.
        Scores are law / E in fp64; of equal ones the lowest id wins. Equal to sorting the full race, ties included: what
        is left out has a score bound below `count` scores that were really reached. Raises ValueError for a count below 1.
        """
        if count < 1:
            raise ValueError(f"winners: expected a count of at least 1, got {count}.")
        tiles = _tiles(law)  # (B, blocks, BLOCK)
        tops = tiles.amax(-1)
        if rows is not None:
            tops = tops.where(rows.unsqueeze(-1), 0.0)
        row, block = (tops > 0).nonzero(as_tuple=True)  # (K,) blocks in the race
        minimum, holder = _minima(self.base[row], block)
        reached = torch.zeros_like(tops, dtype=torch.float64)  # (B, blocks) by the holders of the minima
        reached[row, block] = tiles[row, block, holder & (BLOCK - 1)].double() / minimum
        # They are a sample of one token in BLOCK with BLOCK times the usual speed, so their race is about as fast as the full one.
        enough = reached.topk(min(count, reached.shape[1])).values[:, -1] * (count <= reached.shape[1])  # (B,)

        able = tops[row, block].double() / minimum >= enough[row]
        row, block, minimum, holder = row[able], block[able], minimum[able], holder[able]
        mass = tiles[row, block].double()  # (K, BLOCK)
        pair, place = ((mass / minimum.unsqueeze(-1) >= enough[row].unsqueeze(-1)) & (mass > 0)).nonzero(as_tuple=True)
        ids = block[pair] * BLOCK + place
        noise = _token(self.base[row[pair]], ids, minimum[pair], holder[pair])
        return _best(row[pair], ids, mass[pair, place] / noise, law.shape[0], count)


def _tiles(law: Tensor) -> Tensor:
    """(B, V) in blocks of ids, the last one filled up with zeros: (B, blocks, BLOCK)."""
    missing = -law.shape[1] % BLOCK
    return (torch.nn.functional.pad(law, (0, missing)) if missing else law).unflatten(-1, (-1, BLOCK))


def _minima(base: Tensor, block: Tensor) -> tuple[Tensor, Tensor]:
    """The least E of each block, fp64, and the id that has it; the two broadcast."""
    word = mix(base + ~block * FIRST)  # ~block < 0: no token's counter
    return exponential(word) * (1.0 / BLOCK), block * BLOCK + (mix(word + STEP) & (BLOCK - 1))


def _token(base: Tensor, ids: Tensor, minimum: Tensor, holder: Tensor) -> Tensor:
    """E of each id, given its block's minimum and who has it."""
    above = exponential(mix(base + ids * FIRST))
    return minimum + above.masked_fill_(ids == holder, 0.0)


def _best(row: Tensor, ids: Tensor, score: Tensor, rows: int, count: int) -> Tensor:
    """The `count` best of each row's scores (K,), of equal ones the lowest id first: int64 (rows, count), -1 = no more."""
    beyond = torch.iinfo(torch.int64).max
    out = []
    for _ in range(count):
        best = score.new_zeros(rows).scatter_reduce_(0, row, score, "amax")
        tied = torch.where((score == best[row]) & (score > 0), ids, beyond)
        first = torch.full((rows,), beyond, device=ids.device).scatter_reduce_(0, row, tied, "amin")
        out.append(torch.where(first == beyond, -1, first))
        score = torch.where(ids == first[row], 0.0, score)
    return torch.stack(out, 1)
