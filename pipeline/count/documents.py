"""A sample of the counted documents as ids: what tells how well a choice by counts covers text it has not seen."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from drafters.io.atomic import write_atomic

FILE = "documents.safetensors"
BYTES = {"train": 2_000_000, "heldout": 1_000_000}  # of text, or of ids of 4 bytes; what fits is all there
LEAST = 32  # documents that are held however long they are

Part = TypeVar("Part")


@dataclass(frozen=True)
class Sampled(Generic[Part]):
    """One document: its ids, or its text until that is encoded."""

    number: int  # in the stream
    split: str  # train | heldout
    domain: str
    content: Part
    read: bool = False  # the target's law was read on it, so that it is no unseen text


@dataclass
class Sample(Generic[Part]):
    """A uniform sample of a stream's documents in bounded memory: those with the lowest hashes of their numbers."""

    _held: dict[str, list[tuple[int, int, Sampled[Part]]]] = field(default_factory=lambda: {"train": [], "heldout": []})
    _bytes: dict[str, int] = field(default_factory=lambda: {"train": 0, "heldout": 0})
    dropped: bool = False  # documents of the train split

    def offer(self, document: Sampled[Part], size: int) -> None:
        """Take a document of `size` bytes, and let go of others where that is too much."""
        hashed = int.from_bytes(hashlib.sha256(str(document.number).encode()).digest()[:8], "big")
        held = self._held[document.split]
        heapq.heappush(held, (-hashed, size, document))  # numbers differ, and so do hashes
        self._bytes[document.split] += size
        while self._bytes[document.split] > BYTES[document.split] and len(held) > LEAST:
            self._bytes[document.split] -= heapq.heappop(held)[1]
            self.dropped |= document.split == "train"

    def documents(self) -> Iterator[Sampled[Part]]:
        """The sample, in the order of the stream."""
        every = [document for held in self._held.values() for _, _, document in held]
        return iter(sorted(every, key=lambda document: document.number))


@dataclass(frozen=True)
class Documents:
    """What `write` wrote."""

    documents: list[Sampled[Tensor]]  # int64 (n,) each
    complete: bool  # every document that was counted is there


def write(out: Path, sample: Sample[Part], encode: Callable[[Part], Tensor]) -> None:
    """Write a sample's ids; `encode` makes them, int64 (n,), of a document's content."""
    found = list(sample.documents())
    ids = [encode(document.content) for document in found]
    tensors = {
        "ids": torch.cat([torch.zeros(0, dtype=torch.int64), *ids]).to(torch.int32),
        "offsets": torch.tensor([0, *map(len, ids)]).cumsum(0),
        "numbers": torch.tensor([document.number for document in found]),
        "read": torch.tensor([document.read for document in found], dtype=torch.bool),
    }
    labels = {
        "labels": json.dumps([[document.split, document.domain] for document in found]),
        "complete": json.dumps(not sample.dropped),
    }
    write_atomic(out / FILE, save(tensors, labels))


def read(folder: Path) -> Documents:
    """Read the sample of a finished `count` directory; an empty one where it has none."""
    if not (folder / FILE).exists():
        return Documents([], False)
    with safe_open(str(folder / FILE), "pt") as file:
        labels = {name: json.loads(text) for name, text in file.metadata().items()}
        ids, offsets, numbers, seen = (file.get_tensor(name) for name in ("ids", "offsets", "numbers", "read"))
    parts = ids.long().split(offsets.diff().tolist())
    rows = zip(numbers.tolist(), labels["labels"], parts, seen.tolist(), strict=True)
    found = [Sampled(number, split, domain, part, law) for number, (split, domain), part, law in rows]
    return Documents(found, labels["complete"])
