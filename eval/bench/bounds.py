"""What the bounds cost per row of a real vocabulary on one core: they are computed for every logged p and q."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from eval.acceptance.optimal import optimal_acceptance, race_acceptance
from eval.acceptance.verifier_formulas import acceptance_kseq, acceptance_rrs_with_replacement
from eval.bench.output import Figures, environment, finish
from eval.costs.timing import alternate, median

LIMIT_MS = 150.0  # of one row with 4 drafts with, or 2 without replacement, at the default vocabulary
LIMITED = ("with_replacement_4", "without_replacement_2")


@dataclass
class BoundsOptions:
    """The options of the benchmark of the bounds."""

    vocabulary: int = 151_936  # V; the default is the largest of common model families
    rounds: int = 9  # timings of each, at least 3
    seed: int = 0  # of p and q
    threads: int = 1


def measure(options: BoundsOptions) -> Figures:
    """CPU milliseconds (user and system) per row of each bound, and as multiples of sorting the row once.

    CPU time, not wall time: other load on the machine does not count. Logits are N(0, 9), the drafter's are off by
    N(0, 1).

    Returns:
        ``milliseconds`` (medians), ``per_sort`` (ratios of medians), ``within_limit`` for the two that have one (150 ms at
        V = 151,936), ``values`` (the acceptances), and what they were measured on.
    """
    torch.set_num_threads(options.threads)
    tasks = _tasks(*_pair(options.vocabulary, options.seed))
    values = {name: float(task()) for name, task in tasks.items() if name != "sort"}
    series = alternate(tasks, options.rounds, torch.device("cpu"), cpu_time=True)
    milliseconds = {name: 1e3 * median(seconds) for name, seconds in series.items()}
    sort = milliseconds.pop("sort")
    return {
        **asdict(options),
        "milliseconds": milliseconds,
        "per_sort": {name: value / sort for name, value in milliseconds.items()},
        "limit_milliseconds": LIMIT_MS,
        "within_limit": {name: milliseconds[name] <= LIMIT_MS for name in LIMITED},
        "values": values,
    } | environment()


def lines(result: Figures) -> Iterator[str]:
    """A line to print per bound: its time and its value."""
    for name, value in result["milliseconds"].items():
        yield f"{name:24} {value:8.1f} ms  {result['per_sort'][name]:7.1f} x one sort  = {result['values'][name]:.6f}"


def main(options: BoundsOptions) -> int:
    """Measure, write runs/bench/bounds.json, and print; 1 if a limit is exceeded."""
    result = measure(options)
    return finish("bounds", result, lines(result), all(result["within_limit"].values()))


def _pair(vocabulary: int, seed: int) -> tuple[Tensor, Tensor]:
    logits, noise = torch.randn(2, vocabulary, generator=torch.Generator().manual_seed(seed))
    return (3 * logits).softmax(-1), (3 * logits + noise).softmax(-1)


def _tasks(p: Tensor, q: Tensor) -> dict[str, Callable[[], Tensor]]:
    ratio = p.double() / q.double()
    return {
        "sort": lambda: ratio.sort(dim=-1, stable=True).values[-1],
        "with_replacement_4": lambda: optimal_acceptance(p, q, 4, "with_replacement"),
        "without_replacement_2": lambda: optimal_acceptance(p, q, 2, "without_replacement"),
        "without_replacement_4": lambda: optimal_acceptance(p, q, 4, "without_replacement"),
        "greedy_4": lambda: optimal_acceptance(p, q, 4, "greedy"),
        "race_1": lambda: race_acceptance(p, q),
        "rrs_with_replacement_4": lambda: acceptance_rrs_with_replacement(p, q, 4),
        "kseq_4": lambda: acceptance_kseq(p, q, 4)[0],
    }
