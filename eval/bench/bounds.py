"""What the bounds cost per row of a real vocabulary on one core: they are computed for every logged pair of laws.

python -m eval.bench.bounds [FILE]
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eval.acceptance.optimal import optimal_acceptance, race_acceptance
from eval.acceptance.verifier_formulas import acceptance_kseq, acceptance_rrs_with_replacement

VOCABULARY = 151_936  # the largest of common model families
LIMIT_MS = 150.0  # of one row with 4 drafts with, or 2 without replacement
LIMITED = ("with_replacement_4", "without_replacement_2")
OUTPUT = Path("runs/bench/bounds.json")


def measure(vocabulary: int = VOCABULARY, rounds: int = 9, seed: int = 0) -> dict[str, Any]:
    """CPU milliseconds (user and system) per row of each bound, one thread, and as multiples of sorting the row once.

    CPU time, not wall time: other load on the machine does not count. Logits are N(0, 9), the drafter's are off by
    N(0, 1).

    Args:
        vocabulary: V. rounds: at least 3; every round times everything once, in turn.

    Returns:
        JSON-ready: ``milliseconds`` (medians), ``per_sort`` (ratios of medians), ``within_limit`` for the two that
        have one (150 ms at V = 151,936), ``values`` (the acceptances), and what they were measured on.

    Raises:
        ValueError: fewer than 3 rounds.
    """
    if rounds < 3:
        raise ValueError(f"rounds must be at least 3 for a median, got {rounds}")
    p, q = _pair(vocabulary, seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        tasks = _tasks(p, q)
        values = {name: float(task()) for name, task in tasks.items()}  # warms up, too
        times: dict[str, list[float]] = {name: [] for name in tasks}
        for _ in range(rounds):
            for name, task in tasks.items():
                times[name].append(_milliseconds(task))
    finally:
        torch.set_num_threads(threads)
    median = {name: statistics.median(series) for name, series in times.items()}
    sort = median.pop("sort")
    values.pop("sort")
    return {
        "vocabulary": vocabulary,
        "rounds": rounds,
        "milliseconds": median,
        "per_sort": {name: value / sort for name, value in median.items()},
        "limit_milliseconds": LIMIT_MS,
        "within_limit": {name: median[name] <= LIMIT_MS for name in LIMITED},
        "values": values,
        "load": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def main(arguments: list[str]) -> int:
    """Measure, print a line per bound, write the JSON file; 1 if a limit is exceeded."""
    path = Path(arguments[0]) if arguments else OUTPUT
    result = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result, indent=2) + "\n")
    part.replace(path)
    for name, value in result["milliseconds"].items():
        print(f"{name:24} {value:8.1f} ms  {result['per_sort'][name]:7.1f} x one sort  = {result['values'][name]:.6f}")
    return 0 if all(result["within_limit"].values()) else 1


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


def _milliseconds(task: Callable[[], object]) -> float:
    begin = time.process_time()
    task()
    return 1e3 * (time.process_time() - begin)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
