"""The target's answers to a text, read once and kept: what its head reads at every position, and the log-sum-exp of its logits.

A shard is named by all that decides its bytes (target, temperature, numbers, ids), so that a run that was killed, another training
and one with more text find what is there. On the same machine with as many threads a shard made twice is the same bytes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from drafters.io.atomic import write_atomic
from pipeline.cut.columns import Head
from pipeline.cut.text import Document
from pipeline.runner.stage import Advance, unseen

FORMAT = 1
BATCH = 4096  # padded tokens read at once


@dataclass(frozen=True)
class Answers:
    """The teacher on one document."""

    ids: Tensor  # int64 (n,)
    hidden: Tensor  # bf16 (n, H) what its head reads
    log_total: Tensor  # fp32 (n,) log-sum-exp of its V logits over the temperature


def bytes_per_token(width: int) -> int:
    """Bytes that one token takes in a shard, H = ``width``."""
    return 2 * width + 4 + 4


def shard_path(folder: Path, identity: str, group: Sequence[Document]) -> Path:
    """Where the shard of a group of documents lies; ``identity`` says by which target and how it is read."""
    digest = hashlib.sha256(f"{FORMAT} {identity}".encode())
    for document in group:
        digest.update(f" {len(document.ids)} ".encode() + document.ids.numpy().tobytes())
    return folder / f"{digest.hexdigest()[:24]}.safetensors"


def fill(
    paths: Sequence[Path],
    groups: Sequence[Sequence[Document]],
    open_target: Callable[[], PreTrainedModel],
    temperature: float,
    advance: Advance = unseen,
) -> None:
    """Write the shards that are missing; `advance` is told of tokens. The target is opened only if any is."""
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    there = set(range(len(paths))) - set(missing)
    advance(sum(len(document.ids) for number in there for document in groups[number]), kept=True)
    if not missing:
        return
    target = open_target()
    head = Head.of(target, temperature)
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    for number in missing:
        write_atomic(paths[number], _shard(target, head, groups[number], advance))


def seconds_per_token(target: PreTrainedModel, temperature: float, document: Document) -> float:
    """Time the reading of one document, once to warm up."""
    head = Head.of(target, temperature)
    _read(target, head, document.ids[None, :16])
    begin = time.perf_counter()
    _read(target, head, document.ids[None])
    return (time.perf_counter() - begin) / len(document.ids)


def _shard(target: PreTrainedModel, head: Head, group: Sequence[Document], advance: Advance) -> bytes:
    """The file of a group: ``ids`` int32 (n,), ``offsets`` int64 (documents + 1,), ``hidden`` bf16 (n, H), ``log_total`` fp32 (n,)."""
    lengths = [len(document.ids) for document in group]
    found: list[Any] = [None] * len(group)
    for batch in packed(sorted(range(len(group)), key=lengths.__getitem__), lengths, BATCH):
        ids = pad_sequence([group[number].ids for number in batch], batch_first=True)
        hidden, log_total = _read(target, head, ids)
        for row, number in enumerate(batch):
            found[number] = (hidden[row, : lengths[number]].cpu(), log_total[row, : lengths[number]].cpu())
            advance(lengths[number])
    return save(
        {
            "ids": torch.cat([document.ids for document in group]).to(torch.int32),
            "offsets": torch.tensor([0, *lengths]).cumsum(0),
            "hidden": torch.cat([hidden for hidden, _ in found]),
            "log_total": torch.cat([log_total for _, log_total in found]),
        }
    )


@torch.inference_mode()
def _read(target: PreTrainedModel, head: Head, ids: Tensor, chunk: int = 512) -> tuple[Tensor, Tensor]:
    """Hidden states bf16 (B, n, H) and log-sum-exps fp32 (B, n) of right-padded ids (B, n); of the rounded hidden states,
    so that the law that is read from the cache sums to one."""
    hidden = target.base_model(input_ids=ids.to(target.device), use_cache=False).last_hidden_state.to(torch.bfloat16)
    flat = hidden.flatten(0, 1)
    log_total = torch.cat([head(part).logsumexp(-1) for part in flat.split(chunk)])
    return hidden, log_total.view(ids.shape)


def packed(order: Sequence[int], lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Documents in the given order in batches of at most ``budget`` padded tokens, one document at least."""
    batches: list[list[int]] = []
    longest = 0
    for number in order:
        longest = max(longest, lengths[number])
        if not batches or longest * (len(batches[-1]) + 1) > budget:
            batches.append([])
            longest = lengths[number]
        batches[-1].append(number)
    return batches


@dataclass
class Cache:
    """The shards of a text, read by document."""

    paths: Sequence[Path]
    groups: Sequence[Sequence[Document]]
    documents: list[Document] = field(init=False)

    def __post_init__(self) -> None:
        self.documents = [document for group in self.groups for document in group]
        self._places: list[tuple[int, int]] = []  # of a document: number of its shard, its first token there
        for shard, group in enumerate(self.groups):
            begin = 0
            for document in group:
                self._places.append((shard, begin))
                begin += len(document.ids)
        self._open: dict[int, Any] = {}

    def __getitem__(self, number: int) -> Answers:
        """The teacher on document ``number``."""
        shard, begin = self._places[number]
        if shard not in self._open:
            self._open[shard] = safe_open(str(self.paths[shard]), "pt").__enter__()
        file, ids = self._open[shard], self.documents[number].ids
        span = slice(begin, begin + len(ids))
        return Answers(ids, file.get_slice("hidden")[span], file.get_slice("log_total")[span])
