"""Byte-level BPE tokenizers of the embedded models, and packed text: the order of its windows depends on seed and step alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from pipeline.runner.stage import Advance, unseen

END_OF_TEXT = "<|endoftext|>"
# Words with one leading mark, digits one by one, punctuation runs, line ends with their indentation kept apart: suits source code.
CODE_PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+"


def train_tokenizer(texts: Iterable[str], size: int, pattern: str | None, context: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer of exactly `size` tokens, `<|endoftext|>` (id 0) being both BOS and EOS.

    `pattern` is the pre-tokenization regex; None takes GPT-2's own. `context` is recorded as the tokenizer's model_max_length.
    Raises ValueError if the texts do not hold enough material for `size` tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    if pattern is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != size:
        raise ValueError(
            f"tokenizer: expected {size} tokens, got {tokenizer.get_vocab_size()}; the text is too small for this size."
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


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
