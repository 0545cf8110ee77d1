"""What is counted, and by whom: the texts of both tokenizers in an order that never changes, and a sample of them on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from drafters.models.pair import Checkpoint
from drafters.vocab.counting.counts import MakeFanout
from drafters.vocab.counting.processes import Fanout
from eval.suites.row_files import Skipped
from pipeline.config.settings import HardwareConfig
from pipeline.count import documents
from pipeline.count.own_text import count_ids, requests
from pipeline.count.shards import Item, Totals, count_stream, limited, utf8_bytes
from pipeline.runner.stage import Workspace
from pipeline.text import corpus as corpora
from pipeline.text.chat_format import chat_format
from pipeline.text.corpus import CorpusConfig
from pipeline.text.domains import script_of
from pipeline.text.python_source import Document


@dataclass(frozen=True)
class Texts:
    """What is counted: a corpus up to some size, or the target's own continuations."""

    corpus: CorpusConfig | None
    generated: Path | None
    max_bytes: int | None

    @property
    def size(self) -> int | None:
        """Bytes that will be read once, where that is known."""
        size = None if self.corpus is None else corpora.size_hint(self.corpus)
        return self.max_bytes if size is None else min(size, self.max_bytes or size)

    def items(self, target: Checkpoint, foreign: bool, skipped: Skipped) -> Iterator[Item]:
        """The texts, in an order that never changes; chats for a foreign tokenizer without the target's special tokens.

        A document whose domain nobody says is of the domain of its script.
        """
        if self.corpus is not None:
            chats = chat_format(target)
            for split, item in limited(corpora.both(self.corpus, chats=chats, skipped=skipped), self.max_bytes):
                bare = foreign and item.whole is not None
                text = chats.without_specials(item.text) if bare else item.text
                yield split, replace(item, text=text, domain=item.domain or script_of(item.text))
            return
        for request in requests(self.generated or Path(), target.tokenizer):
            yield request.split, Document(f"request {request.number}", request.text, request.domain)


@dataclass
class Counting:
    """Counts, and what else is found on the way: a sample of the target's documents, and those that the target shall read."""

    work: Workspace
    texts: Texts
    sides: Mapping[str, Checkpoint]
    hardware: HardwareConfig
    workers: int | None  # processes; None: all cores
    shard_bytes: int
    law_tokens: int  # of its own text that the target reads again
    sample: documents.Sample[str | Tensor] = field(default_factory=documents.Sample)
    read: set[int] = field(default_factory=set)  # numbers of requests

    def count(self, prefix: str, skipped: Skipped) -> Totals:
        """Count the tokens of one side."""
        side = self.sides[prefix]
        if self.texts.generated is not None and not prefix:
            totals, self.read = count_ids(self.texts.generated, side, self.sample, self.law_tokens)
            return totals
        workers, fanout = _processes(self.workers, self.hardware)
        items = self.texts.items(self.sides[""], bool(prefix), skipped)
        with self.work.progress(f"Counting {prefix.rstrip('_') or 'target'} tokens", self.texts.size, "bytes") as bar:
            return count_stream(
                items if prefix else self._watched(items),
                side.tokenizer,
                side.vocabulary,
                self.work.out / f".part-{prefix}counts",
                shard_bytes=self.shard_bytes,
                on_bytes=bar.advance,
                workers=workers,
                fanout=fanout,
            )

    def _watched(self, items: Iterable[Item]) -> Iterator[Item]:
        for number, (split, document) in enumerate(items):
            size = utf8_bytes(document.text)
            self.sample.offer(documents.Sampled(number, split, document.domain, document.text), size)
            yield split, document

    def write_sample(self) -> None:
        """Write the sample as ids of the target's."""
        tokenizer = self.sides[""].tokenizer

        def encode(content: str | Tensor) -> Tensor:
            if isinstance(content, Tensor):
                return content
            ids = tokenizer(content, add_special_tokens=False, verbose=False)["input_ids"]
            return torch.tensor(ids, dtype=torch.int64)

        documents.write(self.work.out, self.sample, encode)


def _processes(workers: int | None, hardware: HardwareConfig) -> tuple[int | None, MakeFanout]:
    """How many processes count beside this one, and how they are reached."""
    if hardware.backend == "local":
        return workers, Fanout
    from pipeline.count.ray import cluster_workers, ray_fanout  # here: Ray is an extra

    return workers or cluster_workers(hardware.address), ray_fanout(hardware.address)
