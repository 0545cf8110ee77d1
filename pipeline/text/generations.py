"""Shards of generated text, as `generate` writes and later stages read them: ids of prompts and their continuations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

PATTERN = "shard-*.safetensors"
DOMAINS = "domains.json"  # of each request, in the order of their numbers


def shard_path(folder: Path, index: int) -> Path:
    """Where a shard lies in the stage's directory."""
    return folder / f"shard-{index:05d}.safetensors"


def pack(prompts: list[Tensor], continuations: list[Tensor]) -> bytes:
    """A shard's file: ``ids`` int32 (n,), ``offsets`` int64 (requests + 1,), ``prompt_lengths`` int64 (requests,).

    Args:
        prompts, continuations: int64 (n,) each, one of either per request.
    """
    sequences = [torch.cat([prompt.cpu(), new.cpu()]) for prompt, new in zip(prompts, continuations, strict=True)]
    tensors = {
        "ids": torch.cat(sequences).to(torch.int32),
        "offsets": torch.tensor([0, *map(len, sequences)]).cumsum(0),
        "prompt_lengths": torch.tensor([len(prompt) for prompt in prompts]),
    }
    return save(tensors)


def read_shard(path: Path) -> list[tuple[Tensor, Tensor]]:
    """(prompt, continuation) of each request, int64 (n,) each."""
    with safe_open(str(path), "pt") as file:
        ids, offsets, lengths = (file.get_tensor(name) for name in ("ids", "offsets", "prompt_lengths"))
    spans = zip(offsets[:-1].tolist(), offsets[1:].tolist(), lengths.tolist(), strict=True)
    return [(ids[begin : begin + n].long(), ids[begin + n : end].long()) for begin, end, n in spans]


def read(folder: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """(prompt, continuation) of every request of a finished `generate` directory, in the order of their numbers."""
    for path in sorted(folder.glob(PATTERN)):
        yield from read_shard(path)


def domains(folder: Path) -> list[str]:
    """The domain of every request's prompt, empty where nobody said it; no entries where none was written."""
    path = folder / DOMAINS
    return [str(name) for name in json.loads(path.read_text())] if path.exists() else []
