"""Packed token windows whose order depends on the seed and the step alone, so that a resumed run sees the same batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from pipeline.runner.stage import Advance, unseen


def pack(
    tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], chunk: int = 256, advance: Advance = unseen
) -> np.ndarray:
    """Concatenate the documents' ids, each followed by EOS: uint16 (n,). `advance` is told of documents."""
    if len(tokenizer) > 2**16:
        raise ValueError(f"pack stores uint16 ids; expected at most 65536 tokens, got {len(tokenizer)}.")
    backend, end = tokenizer.backend_tokenizer, tokenizer.eos_token_id
    parts: list[np.ndarray] = []
    batch: list[str] = []

    def flush() -> None:
        for encoding in backend.encode_batch_fast(batch, add_special_tokens=False):
            parts.append(np.asarray([*encoding.ids, end], dtype=np.uint16))
        advance(len(batch))
        batch.clear()

    for text in texts:
        batch.append(text)
        if len(batch) == chunk:
            flush()
    flush()
    return np.concatenate(parts) if parts else np.zeros(0, np.uint16)


def load_or_pack(
    path: Path, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], advance: Advance = unseen
) -> np.ndarray:
    """The packed ids at `path`, made on the first call (written to a sibling first, so a crash leaves no half file)."""
    if not path.exists():
        partial = path.with_name(path.name + ".tmp.npy")
        np.save(partial, pack(tokenizer, texts, advance=advance))
        partial.replace(path)
    else:
        advance(len(texts), kept=True)
    return np.load(path, mmap_mode="r")


class Windows(Dataset):
    """Batch number i of an endless shuffled walk over the windows of a packed text: int64 (B, length + 1)."""

    def __init__(self, ids: np.ndarray, length: int, batch: int, steps: int, seed: int, first: int = 0):
        if len(ids) < batch * (length + 1):
            raise ValueError(f"text too small: expected at least {batch * (length + 1)} tokens, got {len(ids)}.")
        self.ids, self.length, self.batch, self.steps, self.seed, self.first = ids, length, batch, steps, seed, first
        self.windows = (len(ids) - 1) // length
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    def __len__(self) -> int:
        return self.steps - self.first

    def __getitem__(self, index: int) -> Tensor:
        start = (self.first + index) * self.batch
        rows = [self._window(start + offset) for offset in range(self.batch)]
        return torch.from_numpy(np.stack(rows).astype(np.int64))

    def _window(self, number: int) -> np.ndarray:
        epoch, place = divmod(number, self.windows)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.windows)
        begin = int(self._order[place]) * self.length
        return self.ids[begin : begin + self.length + 1]
