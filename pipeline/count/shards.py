"""Token counts of a long stream, shard by shard: what is counted once is on disk and is not counted again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from drafters.io.atomic import write_atomic
from drafters.vocab.counting.counts import MakeFanout, count_tokens
from drafters.vocab.counting.processes import Fanout
from pipeline.errors import ConfigError
from pipeline.runner.stage import Advance
from pipeline.text.corpus import Split
from pipeline.text.python_source import Document

Item = tuple[Split, Document]
MAX_DOMAINS = 256  # rows of int64 (V,): beyond this a column of identifiers was given, not of domains


@dataclass
class Totals:
    """Counts of a stream or of a part of it. Keys are splits, below them domains."""

    vocabulary: int
    rows: dict[str, dict[str, Tensor]] = field(default_factory=lambda: {"train": {}, "heldout": {}})  # int64 (V,)
    documents: dict[str, int] = field(default_factory=lambda: {"train": 0, "heldout": 0})
    bytes: dict[str, int] = field(default_factory=lambda: {"train": 0, "heldout": 0})
    methods: dict[str, str] = field(default_factory=dict)  # how tokens were counted -> why so

    def add(self, split: str, domain: str, counts: Tensor) -> None:
        """Add counts, int64 (V,), to a domain. Raises ConfigError for too many domains."""
        known = self.rows[split]
        if domain not in known and len(known) >= MAX_DOMAINS:
            raise ConfigError(
                f"corpus.domain: more than {MAX_DOMAINS} different values, the last one {domain!r}: choose a column of "
                "few domains, or null"
            )
        known[domain] = known[domain] + counts if domain in known else counts

    def merge(self, other: Totals) -> None:
        """Add everything of another part."""
        for split, rows in other.rows.items():
            for domain, counts in rows.items():
                self.add(split, domain, counts)
            self.documents[split] += other.documents[split]
            self.bytes[split] += other.bytes[split]
        self.methods |= other.methods

    def sum(self, split: str) -> Tensor:
        """int64 (V,) over all domains of a split."""
        return sum(self.rows[split].values(), torch.zeros(self.vocabulary, dtype=torch.int64))

    def stacked(self, domains: list[str]) -> Tensor:
        """int64 (len(domains), V) of the train split, zeros for a domain that it does not have."""
        empty = torch.zeros(self.vocabulary, dtype=torch.int64)
        return torch.stack([self.rows["train"].get(name, empty) for name in domains])


def count_stream(
    items: Iterable[Item],
    tokenizer: PreTrainedTokenizerBase,
    vocabulary: int,
    prefix: Path,
    *,
    shard_bytes: int,
    workers: int | None,
    on_bytes: Advance,
    fanout: MakeFanout = Fanout,
) -> Totals:
    """Count a stream, writing ``<prefix>-00000.safetensors`` ... and reading the shards that are there already.

    The stream must be the same in every run: a finished shard's documents are passed over, not looked at.
    """
    totals, stream = Totals(vocabulary), iter(items)
    for index, first in enumerate(iter(lambda: next(stream, None), None)):
        part, path = Totals(vocabulary), prefix.with_name(f"{prefix.name}-{index:05d}.safetensors")
        texts = _labelled(chain([first], stream), part, shard_bytes)
        if path.exists():
            for _, text in texts:
                on_bytes(utf8_bytes(text), kept=True)
            part = _load(path, vocabulary)
        else:
            found = count_tokens(
                tokenizer, texts, vocabulary=vocabulary, workers=workers, on_bytes=on_bytes, fanout=fanout
            )
            for label, counts in found.domains.items():
                split, _, domain = label.partition("/")
                part.add(split, domain, counts)
            part.methods = {found.method: found.reason}
            write_atomic(path, _saved(part))
        totals.merge(part)
    return totals


def utf8_bytes(text: str) -> int:
    """Size of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def limited(items: Iterable[Item], max_bytes: int | None) -> Iterator[Item]:
    """The stream up to the document with which `max_bytes` are reached; None: all of it."""
    taken = 0
    for split, document in items:
        yield split, document
        taken += utf8_bytes(document.text)
        if max_bytes is not None and taken >= max_bytes:
            return


def _labelled(items: Iterable[Item], part: Totals, shard_bytes: int) -> Iterator[tuple[str, str]]:
    """("split/domain", text) of one shard; what passes is measured in `part`."""
    taken = 0
    for split, document in items:
        size = utf8_bytes(document.text)
        part.documents[split] += 1
        part.bytes[split] += size
        yield f"{split}/{document.domain}", document.text
        taken += size
        if taken >= shard_bytes:
            return


def _saved(part: Totals) -> bytes:
    tensors = {f"{split}/{domain}": counts for split, rows in part.rows.items() for domain, counts in rows.items()}
    sizes = {"documents": part.documents, "bytes": part.bytes, "methods": part.methods}
    return save(tensors, {"sizes": json.dumps(sizes)})


def _load(path: Path, vocabulary: int) -> Totals:
    with safe_open(str(path), "pt") as file:
        part = Totals(vocabulary, **json.loads(file.metadata()["sizes"]))
        for name in file.keys():  # noqa: SIM118 - a safetensors file is not a dict
            split, _, domain = name.partition("/")
            part.add(split, domain, file.get_tensor(name))
    return part
