"""How much faster exact counting is than encoding every text with the tokenizer's own fastest call, same cores."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from drafters.vocab.counting.counts import Text, count_tokens

BATCH = 256  # texts per `encode_batch_fast` call: enough to keep every core busy, little enough to bound memory
RESAMPLES = 10_000
INTERVAL = (2.5, 97.5)  # percentiles


def measure(tokenizer: Tokenizer, texts: Sequence[Text], rounds: int = 5, seed: int = 0) -> dict[str, Any]:
    """Time both ways in turn, changing who goes first, and compare round by round, so that load from outside hits both.

    Ours includes everything up to the counts, starting processes too. Of plain encoding only the encoding is timed: its
    ids would still have to be counted.

    Args:
        texts: (domain, text) pairs, held in memory. rounds: at least 3.

    Returns:
        JSON-ready figures: ``ratio`` (median over rounds), ``ratio_low`` and ``ratio_high`` (95 % bootstrap interval of
        the median), seconds of every round, and ``equal``: whether both ways gave the same counts.

    Raises:
        ValueError: too few rounds, or no text.
    """
    if rounds < 3 or not texts:
        raise ValueError(f"expected at least 3 rounds and one text, got {rounds} rounds and {len(texts)} texts")
    expected, result = np.zeros(max(tokenizer.get_vocab().values()) + 1, dtype=np.int64), count_tokens(tokenizer, texts)
    _encode(tokenizer, texts, lambda ids: np.add.at(expected, ids, 1))
    ours, plain = [], []
    for number in range(rounds):
        order = (lambda: ours.append(_seconds(lambda: count_tokens(tokenizer, texts))),
                 lambda: plain.append(_seconds(lambda: _encode(tokenizer, texts))))  # fmt: skip
        for step in order if number % 2 else reversed(order):
            step()
    ratios = np.array(plain) / np.array(ours)
    draws = np.random.default_rng(seed).choice(ratios, (RESAMPLES, rounds))
    low, high = np.percentile(np.median(draws, axis=1), INTERVAL)
    return {
        "ratio": float(np.median(ratios)),
        "ratio_low": float(low),
        "ratio_high": float(high),
        "ours_seconds": ours,
        "plain_seconds": plain,
        "megabytes": result.bytes / 1e6,
        "megabytes_per_second": result.bytes / 1e6 / statistics.median(ours),
        "tokens": result.tokens,
        "method": result.method,
        "reason": result.reason,
        "equal": bool(np.array_equal(expected, result.counts.numpy())),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), "tokenizers": version("tokenizers")},
    }


def _encode(tokenizer: Tokenizer, texts: Sequence[Text], use: Callable[[list[int]], None] | None = None) -> None:
    for start in range(0, len(texts), BATCH):
        batch = [text for _, text in texts[start : start + BATCH]]
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            if use is not None:
                use(encoding.ids)


def _seconds(act: Callable[[], object]) -> float:
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin
