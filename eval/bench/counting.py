"""How much faster exact counting is than encoding every text with the tokenizer's own fastest call, same cores.

Both read the Python source found on this machine, with the embedded pair's tokenizer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from drafters.io.paths import ZOO
from drafters.vocab.counting.counts import Text, count_tokens
from eval.bench.output import BenchError, Figures, environment, finish
from eval.costs.timing import alternate, median, ratio

BATCH = 256  # texts per `encode_batch_fast` call: enough to keep every core busy, little enough to bound memory


@dataclass
class CountingOptions:
    """The options of the counting benchmark."""

    megabytes: float = 50.0  # of source
    rounds: int = 3  # timings of each, at least 3


def source_texts(megabytes: float) -> list[Text]:
    """Python files below `sys.prefix`, as many as are needed. Raises BenchError where there are too few."""
    texts, size = [], 0
    for path in sorted(Path(sys.prefix).rglob("*.py")):
        text = path.read_text(encoding="utf-8", errors="ignore")
        texts.append(("", text))
        size += len(text.encode())
        if size >= 1e6 * megabytes:
            return texts
    raise BenchError(f"megabytes={megabytes}: {sys.prefix} has {size / 1e6:.1f} MB of source; ask for less")


def measure(tokenizer: Tokenizer, texts: Sequence[Text], rounds: int) -> Figures:
    """Time both ways in turn, changing who goes first, and compare round by round, so that load from outside hits both.

    Ours includes everything up to the counts, starting processes too. Of plain encoding only the encoding is timed: its
    ids would still have to be counted. `texts` are (domain, text) pairs.

    Returns:
        ``ratio`` (median over rounds), ``ratio_low`` and ``ratio_high`` (95 % bootstrap interval of the median), seconds
        of every round, and ``equal``: whether both ways gave the same counts.
    """
    expected, result = np.zeros(max(tokenizer.get_vocab().values()) + 1, dtype=np.int64), count_tokens(tokenizer, texts)
    _encode(tokenizer, texts, lambda ids: np.add.at(expected, ids, 1))
    tasks = {"plain": lambda: _encode(tokenizer, texts), "ours": lambda: count_tokens(tokenizer, texts)}
    seconds = alternate(tasks, rounds, torch.device("cpu"), warm_up=0)
    speed = ratio(seconds["plain"], seconds["ours"])
    found = environment()
    found["versions"]["tokenizers"] = version("tokenizers")
    return found | {
        "ratio": speed["median"],
        "ratio_low": speed["low"],
        "ratio_high": speed["high"],
        "ours_seconds": seconds["ours"],
        "plain_seconds": seconds["plain"],
        "megabytes": result.bytes / 1e6,
        "megabytes_per_second": result.bytes / 1e6 / median(seconds["ours"]),
        "tokens": result.tokens,
        "method": result.method,
        "reason": result.reason,
        "equal": bool(np.array_equal(expected, result.counts.numpy())),
    }


def lines(result: Figures) -> list[str]:
    """The result as a line to print: speed relative to encode_batch_fast, and whether counts agree."""
    same = "equal" if result["equal"] else "DIFFERENT"
    return [
        f"counting {result['megabytes']:.1f} MB: {result['ratio']:.2f} x encode_batch_fast "
        f"(95 %: {result['ratio_low']:.2f} to {result['ratio_high']:.2f}), counts {same}, {result['megabytes_per_second']:.1f} MB/s"
    ]


def main(options: CountingOptions) -> int:
    """Measure, write runs/bench/counting.json, and print; returns the exit status."""
    tokenizer = Tokenizer.from_file(str(ZOO / "target" / "tokenizer.json"))
    result = measure(tokenizer, source_texts(options.megabytes), options.rounds)
    return finish("counting", result, lines(result))


def _encode(tokenizer: Tokenizer, texts: Sequence[Text], use: Callable[[list[int]], None] | None = None) -> None:
    for start in range(0, len(texts), BATCH):
        batch = [text for _, text in texts[start : start + BATCH]]
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            if use is not None:
                use(encoding.ids)
