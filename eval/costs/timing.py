"""Times that can be compared: tasks that take turns in alternating order, and ratios of what was measured side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from eval.run.trials import synchronise

RESAMPLES = 2_000
INTERVAL = (2.5, 97.5)  # percentiles


def alternate(
    tasks: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of every task in every round; odd rounds run backwards, and the first `warm_up` ones are not counted.

    Raises ValueError below 3 rounds: no median.
    """
    if rounds < 3:
        raise ValueError(f"rounds must be at least 3 for a median, got {rounds}")
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(-warm_up, rounds):
        for name in list(tasks) if number % 2 == 0 else list(tasks)[::-1]:
            synchronise(device)
            start = time.perf_counter()
            tasks[name]()
            synchronise(device)
            if number >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def median(values: Sequence[float]) -> float:
    """The median."""
    return float(np.median(values))


def interval(ratios: Sequence[float], seed: int = 0) -> dict[str, float]:
    """Median of paired ratios with its 95 % bootstrap interval: {"median", "low", "high", "n"}."""
    values = np.asarray(ratios, dtype=float)
    draws = np.random.default_rng(seed).choice(values, (RESAMPLES, len(values)))
    low, high = np.percentile(np.median(draws, axis=1), INTERVAL)
    return {"median": median(ratios), "low": float(low), "high": float(high), "n": len(values)}


def ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    """`interval` of over / under, pair by pair."""
    return interval([a / b for a, b in zip(over, under, strict=True)])
