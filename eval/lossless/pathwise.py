"""Coupled samplers are proved path by path: with the same coins the output is plain race decoding's, token for token."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from drafters.engine.decode import speculative
from drafters.engine.limits import Limits
from drafters.probs import Sampling, warp
from drafters.rng.coins import KeyedCoins
from drafters.samplers.draft import Chain, Sampler, Tree
from drafters.vocab.alignment import identity
from eval.lossless.toys.table_models import Table, TablePair, foreign_pair, full_pair, pruned_pair
from eval.lossless.toys.toy_pairs import Toy, moved
from eval.lossless.toys.toy_policies import STOPS

ROWS, NEW = 96, 8
LIMITS = {
    "T=1": Limits(NEW),
    "warped": Limits(NEW, Sampling(0.7, top_k=4, top_p=0.9)),
    "other q": Limits(NEW, draft_sampling=Sampling(2.0, top_k=3)),
    "T=0": Limits(NEW, Sampling(0.0)),
    "T=0, sampled q": Limits(NEW, Sampling(0.0), draft_sampling=Sampling(1.0)),
}
_TARGET = Table.random(6, 0)
PAIRS = {
    "full": TablePair(_TARGET, Table(_TARGET.logits + 0.7 * Table.random(6, 1).logits), identity(6), eos=(5,)),
    "unrelated": full_pair(6, 2),
    "pruned": pruned_pair(6, [0, 2, 5], 4, eos=(1,)),
    "foreign": foreign_pair(6),
}


def random_shape(seed: int) -> Tree:
    """A tree of up to four levels whose nodes have 0 to 3 children."""
    generator = random.Random(seed)
    levels, nodes = [], 1
    for _ in range(generator.randint(1, 4)):
        counts = [generator.choice([0, 1, 1, 2, 3]) for _ in range(nodes)]
        counts[generator.randrange(nodes)] += 1
        levels.append(tuple(counts))
        nodes = sum(counts)
    return Tree(tuple(levels))


SHAPES: dict[str, Chain | Tree] = {
    "chain": Chain(),
    "batch": Tree((4,)),
    "binary": Tree((2, 2, 2)),
    **{f"random {seed}": random_shape(seed) for seed in range(4)},
}


@dataclass(frozen=True)
class PathCell:
    """One combination; `mismatches` runs it."""

    sampler: str
    pair: str
    shape: str | None  # of SHAPES; None: the catalog's own
    stop: str
    limits: str

    def mismatches(self, device: str = "cpu") -> int:
        """Requests of ROWS whose output differs from plain race decoding's."""
        pair = PAIRS[self.pair]
        sampler = Toy(pair, [0], NEW).sampler(self.sampler)
        assert sampler is not None
        if self.shape is not None:
            sampler = replace(sampler, shape=SHAPES[self.shape])
        place = torch.device(device)
        coins = KeyedCoins(11, torch.arange(ROWS, device=place), strict=True)
        limits = LIMITS[self.limits]
        pair = pair if device == "cpu" else moved(pair, place)
        return differing(sampler, pair, self.stop, coins, limits)


def differing(sampler: Sampler, pair: TablePair, stop: str, coins: KeyedCoins, limits: Limits) -> int:
    """Requests whose output is not plain race decoding's."""
    decoded = speculative(pair, sampler, STOPS[stop](), prompts(len(coins.requests)), coins, limits)
    expected = plain(pair, coins, limits)
    return sum(tokens.tolist() != right for tokens, right in zip(decoded.tokens, expected, strict=True))


def prompts(rows: int) -> list[Tensor]:
    """One to three tokens each."""
    return [torch.tensor([row % 3, 1, (row // 3) % 4][: 1 + row % 3]) for row in range(rows)]


def plain(pair: TablePair, coins: KeyedCoins, limits: Limits) -> list[list[int]]:
    """argmax p / E, token by token, over all of the noise: no engine, no cache, no draft."""
    rows = [prompt.tolist() for prompt in prompts(len(coins.requests))]
    ends = [len(row) + limits.max_new_tokens for row in rows]
    device = coins.requests.device
    for _ in range(limits.max_new_tokens):
        p = torch.stack([warp(pair.target.after(row), limits.sampling) for row in rows])
        position = torch.tensor([len(row) for row in rows], device=device)
        noise = coins.race(position, torch.arange(p.shape[1], device=device))
        for row, end, token in zip(rows, ends, (p / noise).argmax(-1).tolist(), strict=True):
            if len(row) < end and not (row[-1] in pair.eos and len(row) > end - limits.max_new_tokens):
                row.append(token)
    return [row[end - limits.max_new_tokens :] for row, end in zip(rows, ends, strict=True)]


def path_cells(name: str) -> Iterator[PathCell]:
    """All cells of one coupled sampler; none for a sampler that is not coupled."""
    for pair in PAIRS:
        sampler = Toy(PAIRS[pair], [0], NEW).sampler(name)
        if sampler is None or not sampler.verifier.coupled:
            continue
        shapes: list[str | None] = [None, *(SHAPES if isinstance(sampler.shape, Tree) else [])]
        for shape in shapes:
            yield PathCell(name, pair, shape, "length 3", "T=1")
        for stop in ("early stop", "no drafts", "length 1"):
            yield PathCell(name, pair, None, stop, "T=1")
        for limits in LIMITS:
            yield PathCell(name, pair, "binary" if isinstance(sampler.shape, Tree) else None, "length 2", limits)
