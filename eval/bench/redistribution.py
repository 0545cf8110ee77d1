"""Time to redistribute a drafter's q: RDK's first-order forms grow like the vocabulary, the exact form like its square."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from drafters.affinity.prior import AffinityPrior
from drafters.samplers.proposal.rdk import RDK, RDKExact
from drafters.vocab.alignment import VocabMap, identity, restrict
from eval.bench.output import Figures, device_here, environment, finish
from eval.costs.timing import median_seconds

KEPT = 0.25  # share of the vocabulary
NEIGHBOURS = 8
EXACT_BYTES = 2 * 2**30  # of its matrix in fp64 and in fp32; larger ones are left out, and said to be


@dataclass
class RedistributionOptions:
    """The options of the benchmark of redistribution."""

    # their sizes, V
    vocabularies: list[int] = field(default_factory=lambda: [8_192, 16_384, 32_768, 65_536, 131_072, 262_144])
    rounds: int = 7  # timings of each, at least 3
    batch_bytes: int = 64 * 2**20  # of fp32 outputs: beyond what caches hold
    threads: int = 1


def measure(options: RedistributionOptions) -> Figures:
    """Nanoseconds per token of the target's vocabulary and row, medians; of a CPU, its own time.

    A quarter of the vocabulary is kept, spread evenly. `memcpy` copies the distribution over kept tokens and a
    distribution over V once, into new tensors as every form makes one: what must at least be read and written.

    Returns:
        Per V ``rdk_first_order_ns_per_token`` (one row of the prior shared by all donors),
        ``rdk_sparse_ns_per_token`` (K neighbours per donor), ``rdk_exact_ns_per_token`` (None where its matrix does not
        fit), ``memcpy_ns_per_token``, the ratios of the first two to the last and their bytes touched; ``growth``: the
        exponent b of seconds ~ V^b per form.
    """
    torch.set_num_threads(options.threads)
    table = {str(size): _row(size, options, device_here()) for size in options.vocabularies}
    return {
        "kept_share": KEPT,
        "neighbours": NEIGHBOURS,
        "rounds": options.rounds,
        "vocabularies": table,
        "growth": {form: growth(table, form) for form in ("rdk_first_order", "rdk_sparse", "rdk_exact", "memcpy")},
    } | environment()


def growth(table: Figures, form: str) -> float | None:
    """Exponent b of seconds per row ~ V^b, by least squares on logarithms; None for fewer than two sizes."""
    known = [(int(size), row[f"{form}_ns_per_token"]) for size, row in table.items()]
    points = [(size, size * value) for size, value in known if value is not None]
    if len(points) < 2:
        return None
    logs = torch.tensor(points, dtype=torch.float64).log()
    x, y = logs[:, 0] - logs[:, 0].mean(), logs[:, 1] - logs[:, 1].mean()
    return float((x * y).sum() / x.square().sum())


def lines(result: Figures) -> Iterator[str]:
    """A line to print per vocabulary, and the growth."""
    yield "nanoseconds per token: V, copy, first order (x copy), sparse (x copy), exact"
    for size, row in result["vocabularies"].items():
        exact = row["rdk_exact_ns_per_token"]
        yield (
            f"{int(size):8,} {row['memcpy_ns_per_token']:7.3f} {row['rdk_first_order_ns_per_token']:7.3f} "
            f"({row['rdk_first_order_ratio']:.1f} x) {row['rdk_sparse_ns_per_token']:7.3f} ({row['rdk_sparse_ratio']:.1f} x) "
            + ("too large" if exact is None else f"{exact:9.3f}")
        )
    yield "seconds grow as V^b: " + ", ".join(f"{k} {v:.2f}" for k, v in result["growth"].items() if v is not None)


def main(options: RedistributionOptions) -> int:
    """Measure, write runs/bench/redistribution.json, and print; returns the exit status."""
    result = measure(options)
    return finish("redistribution", result, lines(result))


def _row(size: int, options: RedistributionOptions, device: torch.device) -> Figures:
    rows = max(1, -(-options.batch_bytes // (4 * size)))
    kept = torch.arange(0, size, round(1 / KEPT))
    vocab, donors = restrict(identity(size), kept), len(kept)
    generator = torch.Generator().manual_seed(size)
    q = torch.rand(rows, donors, generator=generator)
    q = (q / q.sum(-1, keepdim=True)).to(device)
    law = torch.zeros(rows, size, device=device)

    def copy() -> tuple[Tensor, Tensor]:
        return q.clone(), law.clone()

    def nanoseconds(act: Callable[[], object]) -> float:
        return median_seconds(act, options.rounds, device, 2, cpu_time=True) * 1e9 / (rows * size)

    base = nanoseconds(copy)
    one, many = RDK(vocab, _shared(vocab.to_drafter, donors)), RDK(vocab, _sparse(size, donors, generator))
    first = nanoseconds(partial(one.lift, q))
    sparse = nanoseconds(partial(many.lift, q))
    touched = 4 * (donors + size)  # of q and of q2, a row
    return {
        "rows": rows,
        "memcpy_ns_per_token": base,
        "rdk_first_order_ns_per_token": first,
        "rdk_sparse_ns_per_token": sparse,
        "rdk_exact_ns_per_token": _exact(vocab, q[:1], generator, device),
        "rdk_first_order_ratio": first / base,
        "rdk_sparse_ratio": sparse / base,
        "first_order_bytes_per_row": touched,
        "sparse_bytes_per_row": touched + donors * NEIGHBOURS * (8 + 8 + 4),  # index, weight, and a target to add to
    }


def _exact(vocab: VocabMap, q: Tensor, generator: torch.Generator, device: torch.device) -> float | None:
    """One row: the matrix is read whole, however few rows there are. None where it does not fit."""
    size, donors = len(vocab.to_drafter), q.shape[-1]
    if donors * size * 12 > EXACT_BYTES:
        return None
    form = RDKExact(vocab, _sparse(size, donors, generator))
    return median_seconds(lambda: form.lift(q), 3, device, 2, cpu_time=True) * 1e9 / size


def _shared(to_drafter: Tensor, donors: int) -> AffinityPrior:
    ids = (to_drafter < 0).nonzero().flatten()
    return AffinityPrior(ids.int().unsqueeze(0), torch.full((1, len(ids)), 1 / len(ids)), torch.full((donors,), 0.3))


def _sparse(size: int, donors: int, generator: torch.Generator) -> AffinityPrior:
    index = torch.randint(size, (donors, NEIGHBOURS), generator=generator, dtype=torch.int32)
    return AffinityPrior(index, torch.full((donors, NEIGHBOURS), 1 / NEIGHBOURS), torch.full((donors,), 0.3))
