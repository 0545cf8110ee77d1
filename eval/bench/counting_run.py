"""Counting against `encode_batch_fast` on Python source found on this machine, all cores.

python -m eval.bench.counting_run [key=value ...]   keys: megabytes rounds
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from eval.bench.counting import measure as compare
from eval.bench.output import BenchError, environment, main_of

TOKENIZER = Path(__file__).resolve().parents[2] / "drafters" / "zoo" / "pycode" / "target" / "tokenizer.json"


@dataclass
class CountingOptions:
    """The options of the counting benchmark, given as name=value."""

    megabytes: float = 50.0
    rounds: int = 3


def measure(options: CountingOptions) -> dict[str, Any]:
    """`eval.bench.counting.measure` with the embedded pair's tokenizer. Raises BenchError on too little source."""
    texts, size = [], 0
    for path in sorted(Path(sys.prefix).rglob("*.py")):
        text = path.read_text(encoding="utf-8", errors="ignore")
        texts.append(("", text))
        size += len(text.encode())
        if size >= 1e6 * options.megabytes:
            break
    if size < 1e6 * options.megabytes:
        raise BenchError(f"megabytes={options.megabytes}: {sys.prefix} has {size / 1e6:.1f} MB of source; ask for less")
    return compare(Tokenizer.from_file(str(TOKENIZER)), texts, options.rounds) | environment()


def lines(result: Mapping[str, Any]) -> list[str]:
    """The result as a line to print: speed relative to encode_batch_fast, and whether counts agree."""
    same = "equal" if result["equal"] else "DIFFERENT"
    return [
        f"counting {result['megabytes']:.1f} MB: {result['ratio']:.2f} x encode_batch_fast "
        f"(95 %: {result['ratio_low']:.2f} to {result['ratio_high']:.2f}), counts {same}, {result['megabytes_per_second']:.1f} MB/s"
    ]


if __name__ == "__main__":
    sys.exit(main_of("counting", CountingOptions, measure, lines, sys.argv[1:]))
