"""Table models: language models small enough to know every probability, behind the engine's own interfaces.

Their next-token law is a function of the whole prefix, and their cache holds what a real one holds, one entry per slot
that every later token reads. So a wrong roll-back, a wrong slot or a wrong parent changes the laws that follow, as it
would in a transformer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drafters.rng.counter_hash import mix
from drafters.vocab.alignment import VocabMap, identity
from drafters.vocab.texts import Texts

_PLACE = 0x632BE59BD9B4E019 >> 1  # odd multiplier of a token's place in its prefix


@dataclass(frozen=True)
class Table:
    """A language model in S contexts: a prefix is hashed into one of the rows of `logits` fp64 (S, V or D).

    With a `block`, the law forgets everything before the last place that is a multiple of it, so that one long sequence
    holds many independent blocks.
    """

    logits: Tensor
    block: int | None = None

    @staticmethod
    def random(vocabulary: int, seed: int, contexts: int = 997, scale: float = 1.5) -> Table:
        """Normal logits of standard deviation `scale`."""
        generator = torch.Generator().manual_seed(seed)
        return Table(torch.randn(contexts, vocabulary, generator=generator, dtype=torch.float64) * scale)

    def entry(self, tokens: Tensor, place: Tensor) -> Tensor:
        """What a cache keeps of tokens at these places of their prefix: int64, any shape."""
        return mix((tokens + 1) + (place if self.block is None else place % self.block) * _PLACE)

    def start(self, place: Tensor) -> Tensor:
        """The first place that the law of the token after `place` depends on."""
        return torch.zeros_like(place) if self.block is None else (place + 1) // self.block * self.block

    def read(self, entries: Tensor) -> Tensor:
        """int64 (...) sum of the entries of a prefix -> fp64 (..., V) logits of its next token."""
        return self.logits[mix(entries) % self.logits.shape[0]]

    def after(self, prefix: list[int]) -> Tensor:
        """fp64 (V,) logits after a prefix, without any cache."""
        place = torch.arange(len(prefix))
        entries = self.entry(torch.tensor(prefix), place)
        return self.read(entries[int(self.start(place[-1])) :].sum())


class TableModel:
    """A table with a cache (see drafters.engine.cache.cached_model.Model), which takes every instruction literally."""

    def __init__(self, table: Table, rows: int, capacity: int):
        self.table, self.capacity = table, capacity
        self.lengths = [0] * rows
        self.entries = torch.zeros(rows, capacity, dtype=torch.int64)
        self.place = torch.zeros(rows, capacity, dtype=torch.int64)
        self.sees: Tensor | None = None  # (B, capacity, capacity) slot reads slot; None while every row is a chain

    def extend(
        self,
        tokens: Tensor,
        parents: Tensor | None = None,
        counts: list[int] | None = None,
        logits: bool = True,
        last: bool = False,
    ) -> Tensor | None:
        """See Model.extend, logits fp64. Raises ValueError beyond the capacity."""
        begin = torch.tensor(self.lengths)
        longest = max(self.lengths) + tokens.shape[1]
        if longest > self.capacity:
            raise ValueError(f"table model: expected at most {self.capacity} slots, got {longest}.")
        if parents is not None and self.sees is None:
            chain = torch.ones(self.capacity, self.capacity, dtype=torch.bool).tril()
            self.sees = chain.repeat(len(self.lengths), 1, 1)
        out = []
        for column in range(tokens.shape[1]):
            slot = begin + column
            read = self._write(tokens[:, column], slot, slot - 1 if parents is None else parents[:, column])
            if logits:
                out.append(self.table.read((self.entries * read).sum(-1)))
        self.lengths = [
            length + (tokens.shape[1] if counts is None else counts[row]) for row, length in enumerate(self.lengths)
        ]
        if not logits:
            return None
        if not last or counts is None:
            return torch.stack(out, 1)[:, -1:] if last else torch.stack(out, 1)
        return torch.stack([out[max(count, 1) - 1][row] for row, count in enumerate(counts)]).unsqueeze(1)

    def restart(self, row: int, tokens: list[int]) -> None:
        """See Model.restart."""
        self.lengths[row] = 0
        if self.sees is not None:
            self.sees[row] = torch.ones(self.capacity, self.capacity, dtype=torch.bool).tril()
        for place, token in enumerate(tokens):
            self.place[row, place] = place
            self.entries[row, place] = self.table.entry(torch.tensor(token), torch.tensor(place))
        self.lengths[row] = len(tokens)

    def _write(self, tokens: Tensor, slot: Tensor, parent: Tensor) -> Tensor:
        """Store one token per row, int64 (B,) each; returns the slots that its law reads, bool (B, capacity)."""
        rows = torch.arange(tokens.shape[0])
        read = torch.arange(self.capacity) <= slot.unsqueeze(-1)
        if self.sees is not None:
            read = self.sees[rows, parent.clamp(min=0)] & (parent >= 0).unsqueeze(-1)
            read[rows, slot] = True
            self.sees[rows, slot] = read
        self.place[rows, slot] = torch.where(parent >= 0, self.place[rows, parent.clamp(min=0)] + 1, 0)
        self.entries[rows, slot] = self.table.entry(tokens, self.place[rows, slot])
        if self.table.block is not None:
            read = read & (self.place >= self.table.start(self.place[rows, slot]).unsqueeze(-1))
        return read

    def keep(self, slots: list[list[int]]) -> None:
        """See Model.keep."""
        for row, kept in enumerate(slots):
            if not kept:
                continue
            begin, end = kept[0], kept[0] + len(kept)
            if kept[-1] >= end:  # not in place already
                self.entries[row, begin:end] = self.entries[row, kept]
                self.place[row, begin:end] = self.place[row, kept]
            self.lengths[row] = end
        self.sees = None


@dataclass(frozen=True)
class TablePair:
    """Two tables as the engine sees a pair (drafters.engine.transformers_pair.Pair).

    `spelling[t]` are the drafter ids that target token t is fed as.
    """

    target: Table
    drafter: Table
    vocab: VocabMap  # of the drafter's logits; belongs to the sampler
    eos: tuple[int, ...] = ()
    spelling: tuple[tuple[int, ...], ...] | None = None  # None: the drafter reads target ids
    context: tuple[int | None, int | None] = (None, None)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    model: type[TableModel] = TableModel
    texts: Callable[[], Texts] | None = None  # what the ids spell, for string-level samplers

    @property
    def expansion(self) -> int:
        """See Pair."""
        return 1 if self.spelling is None else max(map(len, self.spelling))

    def open_target(self, rows: int, capacity: int) -> TableModel:
        """A fresh cache on the target."""
        return self.model(self.target, rows, capacity)

    def open_drafter(self, rows: int, capacity: int) -> TableModel:
        """A fresh cache on the drafter."""
        return TableModel(self.drafter, rows, capacity)

    def prompt(self, ids: list[int]) -> list[int]:
        """See Pair."""
        return [part for token in ids for part in self.feed(token)]

    def feed(self, token: int) -> list[int]:
        """See Pair."""
        return [token] if self.spelling is None else list(self.spelling[token])

    def feed_one(self, tokens: Tensor) -> Tensor:
        """See Pair."""
        if self.spelling is None:
            return tokens
        single = [parts[0] if len(parts) == 1 else -1 for parts in self.spelling]
        return torch.where(tokens >= 0, torch.tensor(single)[tokens.clamp(min=0)], -1)


def full_pair(vocabulary: int, seed: int, eos: tuple[int, ...] = ()) -> TablePair:
    """A drafter with the target's whole vocabulary, of size V."""
    return TablePair(Table.random(vocabulary, seed), Table.random(vocabulary, seed + 1), identity(vocabulary), eos)


def pruned_pair(vocabulary: int, kept: list[int], seed: int, eos: tuple[int, ...] = ()) -> TablePair:
    """A drafter whose head keeps only these ids, ascending; it reads all."""
    to_drafter = torch.full((vocabulary,), -1)
    to_drafter[kept] = torch.arange(len(kept))
    return TablePair(
        Table.random(vocabulary, seed), Table.random(len(kept), seed + 1), VocabMap(torch.tensor(kept), to_drafter), eos
    )


def foreign_pair(seed: int, eos: tuple[int, ...] = ()) -> TablePair:
    """V = 4 and D = 5 with another tokenizer: two drafter tokens for target token 1, one without an image.

    Target token 2 is fed as two drafter ids and target token 3 cannot be spelled at all.
    """
    vocab = VocabMap(torch.tensor([1, 0, -1, 1, 3]), torch.tensor([1, 0, -1, 4]))
    return TablePair(Table.random(4, seed), Table.random(5, seed + 1), vocab, eos, spelling=((1,), (0,), (2, 1), ()))
