"""Time to redistribute a drafter's law: RDK's first-order forms grow like the vocabulary, the exact form like its square.

python -m eval.bench.redistribution [FILE]
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drafters.affinity.prior import AffinityPrior
from drafters.samplers.proposal.rdk import RDK, RDKExact
from drafters.vocab.alignment import identity, restrict

VOCABULARIES = (8_192, 16_384, 32_768, 65_536, 131_072, 262_144)
KEPT = 0.25  # share of the vocabulary
NEIGHBOURS = 8
BATCH_BYTES = 64 * 2**20  # of fp32 outputs: beyond what caches hold
EXACT_BYTES = 2 * 2**30  # of its matrix in fp64 and in fp32; larger ones are left out, and said to be
OUTPUT = Path("runs/bench/redistribution.json")


def measure(
    vocabularies: Sequence[int] = VOCABULARIES, rounds: int = 7, device: str = "cpu", batch_bytes: int = BATCH_BYTES
) -> dict[str, Any]:
    """Nanoseconds per token of the target's vocabulary and row, median of `rounds`, one thread on the CPU.

    A quarter of the vocabulary is kept, spread evenly. `memcpy` copies the law over kept tokens and a law over V once, into
    new tensors as every form makes one: what must at least be read and written.

    Returns:
        JSON-ready: per V ``rdk_first_order_ns_per_token`` (one row of the prior shared by all donors), ``rdk_sparse_ns_per_token``
        (K neighbours per donor), ``rdk_exact_ns_per_token`` (None where its matrix does not fit), ``memcpy_ns_per_token``, the
        ratios of the first two to the last and their bytes touched; ``growth``: the exponent b of seconds ~ V^b per form.

    Raises:
        ValueError: fewer than 3 rounds.
    """
    if rounds < 3:
        raise ValueError(f"rounds must be at least 3 for a median, got {rounds}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        table = {str(size): _row(size, rounds, device, batch_bytes) for size in vocabularies}
    finally:
        torch.set_num_threads(threads)
    return {
        "kept_share": KEPT,
        "neighbours": NEIGHBOURS,
        "rounds": rounds,
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "load": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "vocabularies": table,
        "growth": {form: growth(table, form) for form in ("rdk_first_order", "rdk_sparse", "rdk_exact", "memcpy")},
    }


def growth(table: dict[str, dict[str, Any]], form: str) -> float | None:
    """Exponent b of seconds per row ~ V^b, by least squares on logarithms; None for fewer than two sizes."""
    known = [(int(size), row[f"{form}_ns_per_token"]) for size, row in table.items()]
    points = [(size, size * value) for size, value in known if value is not None]
    if len(points) < 2:
        return None
    logs = torch.tensor(points, dtype=torch.float64).log()
    x, y = logs[:, 0] - logs[:, 0].mean(), logs[:, 1] - logs[:, 1].mean()
    return float((x * y).sum() / x.square().sum())


def main(arguments: list[str]) -> int:
    """Measure, print a line per vocabulary, write the JSON file."""
    path = Path(arguments[0]) if arguments else OUTPUT
    result = measure(device="cuda" if torch.cuda.is_available() else "cpu")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    part.replace(path)
    print("nanoseconds per token: V, copy, first order (x copy), sparse (x copy), exact")
    for size, row in result["vocabularies"].items():
        exact = row["rdk_exact_ns_per_token"]
        print(
            f"{int(size):8,} {row['memcpy_ns_per_token']:7.3f} {row['rdk_first_order_ns_per_token']:7.3f} "
            f"({row['rdk_first_order_ratio']:.1f} x) {row['rdk_sparse_ns_per_token']:7.3f} ({row['rdk_sparse_ratio']:.1f} x) "
            + ("too large" if exact is None else f"{exact:9.3f}")
        )
    print("seconds grow as V^b: " + ", ".join(f"{k} {v:.2f}" for k, v in result["growth"].items() if v is not None))
    return 0


def _row(size: int, rounds: int, device: str, batch_bytes: int) -> dict[str, Any]:
    rows = max(1, -(-batch_bytes // (4 * size)))
    kept = torch.arange(0, size, round(1 / KEPT))
    vocab, donors = restrict(identity(size), kept), len(kept)
    generator = torch.Generator().manual_seed(size)
    q = torch.rand(rows, donors, generator=generator)
    q = (q / q.sum(-1, keepdim=True)).to(device)
    law = torch.zeros(rows, size, device=device)

    def copy() -> tuple[Tensor, Tensor]:
        return q.clone(), law.clone()

    per_token = 1e9 / (rows * size)
    base = _seconds(copy, rounds, device) * per_token
    one, many = RDK(vocab, _shared(vocab.to_drafter, donors)), RDK(vocab, _sparse(size, donors, generator))
    first = _seconds(lambda: one.lift(q), rounds, device) * per_token
    sparse = _seconds(lambda: many.lift(q), rounds, device) * per_token
    touched = 4 * (donors + size)  # of q and of q2, a row
    return {
        "rows": rows,
        "memcpy_ns_per_token": base,
        "rdk_first_order_ns_per_token": first,
        "rdk_sparse_ns_per_token": sparse,
        "rdk_exact_ns_per_token": _exact(size, donors, vocab, q[:1], generator, rounds, device),
        "rdk_first_order_ratio": first / base,
        "rdk_sparse_ratio": sparse / base,
        "first_order_bytes_per_row": touched,
        "sparse_bytes_per_row": touched + donors * NEIGHBOURS * (8 + 8 + 4),  # index, weight, and a target to add to
    }


def _exact(
    size: int, donors: int, vocab: Any, q: Tensor, generator: torch.Generator, rounds: int, device: str
) -> float | None:
    """One row: the matrix is read whole, however few rows there are. None where it does not fit."""
    if donors * size * 12 > EXACT_BYTES:
        return None
    form = RDKExact(vocab, _sparse(size, donors, generator))
    return _seconds(lambda: form.lift(q), min(rounds, 3), device) * 1e9 / size


def _shared(to_drafter: Tensor, donors: int) -> AffinityPrior:
    ids = (to_drafter < 0).nonzero().flatten()
    return AffinityPrior(ids.int().unsqueeze(0), torch.full((1, len(ids)), 1 / len(ids)), torch.full((donors,), 0.3))


def _sparse(size: int, donors: int, generator: torch.Generator) -> AffinityPrior:
    index = torch.randint(size, (donors, NEIGHBOURS), generator=generator, dtype=torch.int32)
    return AffinityPrior(index, torch.full((donors, NEIGHBOURS), 1 / NEIGHBOURS), torch.full((donors,), 0.3))


def _seconds(act: Callable[[], object], rounds: int, device: str) -> float:
    series = []
    for _ in range(rounds + 2):  # the first two warm up
        begin = time.perf_counter() if device == "cuda" else time.process_time()
        act()
        if device == "cuda":
            torch.cuda.synchronize()
        series.append((time.perf_counter() if device == "cuda" else time.process_time()) - begin)
    return statistics.median(series[2:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
