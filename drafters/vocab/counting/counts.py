"""Exact token counts of a stream of texts: which tokens a target really uses, and how often.

One pass gives the counts that every later vocabulary size is cut from. The counts equal ``tokenizer.encode(text,
add_special_tokens=False)`` of each text, summed. Where the tokenizer is proven local (``drafters.vocab.counting.pretokens``)
only the distinct pieces are encoded, on all cores; otherwise every text is, and the result says so and why.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias, cast

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from drafters.vocab.counting.pretoken_regex import NotLocal
from drafters.vocab.counting.pretokens import EncodingPlan, plan
from drafters.vocab.counting.processes import Fanout, Others
from drafters.vocab.counting.tally import Tally, private_copy, well_formed

AnyTokenizer: TypeAlias = Tokenizer | PreTrainedTokenizerBase
Text = tuple[str, str]  # domain, text
Counts = dict[str, np.ndarray]  # domain -> int64 (V,)
MakeFanout = Callable[
    [int, str, EncodingPlan, int], AbstractContextManager[Others]
]  # processes, tokenizer.json, plan, V
BATCH_CHARACTERS = 1_000_000
CHECKED_CHARACTERS = 200_000  # of the stream's own first texts, on which the fast path must agree with plain encoding
ALONE_CHARACTERS = 8_000_000  # below this a second process costs more than it brings


@dataclass(frozen=True)
class TokenCounts:
    """Counts of one stream of texts."""

    counts: Tensor  # int64 (V,)
    domains: dict[str, Tensor]  # domain -> int64 (V,), sorted by name; their sum is `counts`
    documents: int
    bytes: int  # of UTF-8
    method: str  # "byte-level" | "sentencepiece" (distinct pieces encoded once) | "plain" (every text encoded)
    reason: str  # why it was plain, or how many texts had to be; "" if none

    @property
    def tokens(self) -> int:
        """The number of tokens counted, all ids together."""
        return int(self.counts.sum())


def count_tokens(
    tokenizer: AnyTokenizer,
    texts: Iterable[Text],
    *,
    vocabulary: int | None = None,
    workers: int | None = None,
    on_bytes: Callable[[int], None] | None = None,
    fanout: MakeFanout = Fanout,
) -> TokenCounts:
    """Count the tokens of `texts`, per domain.

    Args:
        tokenizer: a ``transformers`` tokenizer or a ``tokenizers.Tokenizer``. It is not changed.
        texts: (domain, text) pairs; read once, never held together. Lone surrogates count as U+FFFD.
        vocabulary: V, number of counts; default: one past the tokenizer's largest id. Added tokens beyond it are not
            counted.
        workers: processes, this one included; default: all cores.
        fanout: makes the other processes; those of this machine unless another is given.
        on_bytes: called with the UTF-8 bytes of each batch of texts that was handed out.

    Raises:
        ValueError: the tokenizer has ordinary ids outside `vocabulary`, or `workers` is not positive.
        RuntimeError: a worker process died.
    """
    workers = len(os.sched_getaffinity(0)) if workers is None and hasattr(os, "sched_getaffinity") else workers
    workers = (os.cpu_count() or 1) if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    size = _vocabulary(tokenizer, vocabulary)
    meter = _Meter(texts, on_bytes)
    backend = backend_of(tokenizer)
    if backend is None:
        counts, method, reason = (
            _slow(cast(PreTrainedTokenizerBase, tokenizer), meter, size),
            "plain",
            "the tokenizer is not a Rust one",
        )
    else:
        counts, method, reason = _count(backend, meter, size, workers, fanout)
    domains = {name: torch.from_numpy(counts[name])[:vocabulary] for name in sorted(counts)}
    total = sum(domains.values(), torch.zeros(size if vocabulary is None else vocabulary, dtype=torch.int64))
    return TokenCounts(total, domains, meter.documents, meter.bytes, method, reason)


def backend_of(tokenizer: AnyTokenizer) -> Tokenizer | None:
    """A private copy of the Rust tokenizer behind `tokenizer`, without truncation or padding; None if it has none."""
    backend = tokenizer if isinstance(tokenizer, Tokenizer) else getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        return None
    private = private_copy(backend.to_str())
    private.encode_special_tokens = backend.encode_special_tokens
    return private


class _Meter:
    """Batches of well-formed texts, and how much went through."""

    def __init__(self, texts: Iterable[Text], on_bytes: Callable[[int], None] | None):
        self.documents = self.bytes = 0
        self._texts, self._on_bytes = iter(texts), on_bytes

    def batches(self, characters: int = BATCH_CHARACTERS) -> Iterator[list[Text]]:
        """Lists of texts of together about `characters` characters."""
        batch: list[Text] = []
        held = 0
        for domain, text in self._texts:
            text = well_formed(text)
            batch.append((domain, text))
            held += len(text)
            if held >= characters:
                yield self._metered(batch)
                batch, held = [], 0
        if batch:
            yield self._metered(batch)

    def _metered(self, batch: list[Text]) -> list[Text]:
        size = sum(len(text) if text.isascii() else len(text.encode()) for _, text in batch)
        self.documents += len(batch)
        self.bytes += size
        if self._on_bytes is not None:
            self._on_bytes(size)
        return batch


def _vocabulary(tokenizer: AnyTokenizer, vocabulary: int | None) -> int:
    """Rows to count in: V, or more where added tokens lie beyond it."""
    ids = set(dict(tokenizer.get_vocab()).values())
    if vocabulary is None:
        return max(ids, default=-1) + 1
    if isinstance(tokenizer, Tokenizer):
        added = set(tokenizer.get_added_tokens_decoder())
    else:
        added = set(tokenizer.added_tokens_decoder)
    if (largest := max(ids - added, default=-1)) >= vocabulary:
        raise ValueError(
            f"the tokenizer has id {largest}, but the vocabulary has {vocabulary} tokens: is this the model's own tokenizer?"
        )
    return max(vocabulary, max(ids, default=-1) + 1)


def _count(backend: Tokenizer, meter: _Meter, size: int, workers: int, fanout: MakeFanout) -> tuple[Counts, str, str]:
    spec = backend.to_str()
    try:
        if backend.encode_special_tokens:
            raise NotLocal("special tokens are encoded as text")
        cuts = plan(spec)
    except NotLocal as error:
        return _plain(backend, meter.batches(), size), "plain", str(error)
    first = next(meter.batches(CHECKED_CHARACTERS), [])
    expected = _plain(backend, [first], size)
    tally = Tally(backend, cuts, size)
    tally.extend(first)
    if not _same(tally.finish(), expected):
        rest = _plain(backend, meter.batches(), size)
        return _add(expected, rest), "plain", "fast and plain counts differ on the first texts"
    counts, plain_texts = _fast(tally, spec, meter, workers, fanout)
    return counts, cuts.family, f"{plain_texts} texts encoded plainly" if plain_texts else ""


def _fast(tally: Tally, spec: str, meter: _Meter, workers: int, fanout: MakeFanout) -> tuple[Counts, int]:
    """This process counts too: alone for the first megabytes, then what the other processes' queue has no room for."""
    batches = meter.batches()
    for batch in islice(batches, ALONE_CHARACTERS // BATCH_CHARACTERS if workers > 1 else None):
        tally.extend(batch)
    following = next(batches, None)
    if following is None:
        return tally.finish(), tally.plain_texts
    with fanout(workers - 1, spec, tally.plan, tally.size) as others:
        while following is not None:
            if not others.offer(following):
                tally.extend(following)
            following = next(batches, None)
        others.close()
        counts, plain_texts = tally.finish(), tally.plain_texts
        for more, plain in others.results():
            counts, plain_texts = _add(counts, more), plain_texts + plain
    return counts, plain_texts


def _plain(backend: Tokenizer, batches: Iterable[list[Text]], size: int) -> Counts:
    counts: Counts = {}
    for batch in batches:
        encodings = backend.encode_batch_fast([text for _, text in batch], add_special_tokens=False)
        for (domain, _), encoding in zip(batch, encodings, strict=True):
            np.add.at(counts.setdefault(domain, np.zeros(size, dtype=np.int64)), encoding.ids, 1)
    return counts


def _slow(tokenizer: PreTrainedTokenizerBase, meter: _Meter, size: int) -> Counts:
    counts: Counts = {}
    for domain, text in (item for batch in meter.batches() for item in batch):
        ids = tokenizer.encode(text, add_special_tokens=False)
        np.add.at(counts.setdefault(domain, np.zeros(size, dtype=np.int64)), ids, 1)
    return counts


def _add(left: Counts, right: Counts) -> Counts:
    total = dict(left)
    for name, row in right.items():
        total[name] = total[name] + row if name in total else row
    return total


def _same(left: Counts, right: Counts) -> bool:
    difference = _add(left, {name: -row for name, row in right.items()})
    return not any(np.any(row) for row in difference.values())
