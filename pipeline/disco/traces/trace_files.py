"""Traces on disk: Arrow shards, one row per drafted position, written whole or not at all, read by memory map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from drafters.io.atomic import atomic_path
from drafters.stop.features import NAMES
from eval.stop.replay import Trace

PATTERN = "traces-*.arrow"


@dataclass(frozen=True)
class Request:
    """A traced request and where it belongs."""

    number: int
    group: str
    split: str
    temperature: float
    trace: Trace


def shard_path(folder: Path, temperature: float, index: int) -> Path:
    """The path of a shard of traces, by temperature and number."""
    return folder / f"traces-{temperature:g}-{index:05d}.arrow"


def write_shard(path: Path, requests: Sequence[Request]) -> None:
    """Write all positions of the requests."""
    from datasets import Features, Sequence, Value
    from datasets.arrow_writer import ArrowWriter

    names = {"request": "int32", "group": "string", "split": "string", "temperature": "float32", "position": "int32"}
    columns = Features(
        {name: Value(kind) for name, kind in names.items()}
        | {"features": Sequence(Value("float32"), length=len(NAMES)), "accepted": Value("bool")}
        | {"chance": Value("float32"), "overlap": Value("float32")}
    )
    with atomic_path(path) as temporary, ArrowWriter(path=str(temporary), features=columns) as writer:
        for item in requests:
            writer.write_batch(_columns(item))
        writer.finalize()


def _columns(item: Request) -> dict[str, object]:
    """One request as columns of n rows."""
    trace, n = item.trace, len(item.trace.accepted)
    constant = {"request": item.number, "group": item.group, "split": item.split, "temperature": item.temperature}
    return {name: [value] * n for name, value in constant.items()} | {
        "position": list(range(n)),
        "features": trace.features.numpy(),
        "accepted": trace.accepted.tolist(),
        "chance": trace.chance.tolist(),
        "overlap": trace.overlap.tolist(),
    }


def read_shards(folder: Path) -> list[Request]:
    """Every request of a finished `traces` directory, by temperature and number."""
    return [request for path in sorted(folder.glob(PATTERN)) for request in read_shard(path)]


def read_shard(path: Path) -> list[Request]:
    """The requests of one shard."""
    from datasets import Dataset

    rows = Dataset.from_file(str(path)).with_format("numpy")[:]
    begins = [*np.flatnonzero(np.diff(rows["request"], prepend=-1)).tolist(), len(rows["request"])]
    found = []
    for begin, end in pairwise(begins):
        part = slice(begin, end)
        trace = Trace(
            features=torch.from_numpy(np.stack(rows["features"][part])).float(),
            accepted=torch.from_numpy(np.asarray(rows["accepted"][part], dtype=bool)),
            chance=torch.from_numpy(np.asarray(rows["chance"][part], dtype=np.float32)),
            overlap=torch.from_numpy(np.asarray(rows["overlap"][part], dtype=np.float32)),
        )
        number, group, split = int(rows["request"][begin]), str(rows["group"][begin]), str(rows["split"][begin])
        # as it was set: fp32 of 0.7 is another number
        found.append(Request(number, group, split, round(float(rows["temperature"][begin]), 6), trace))
    return found
