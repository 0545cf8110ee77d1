"""Times that can be compared: tasks that take turns in alternating order, ratios, and what a call spends outside of forwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar

import numpy as np
import torch
from torch import nn

from drafters.errors import DraftersError
from eval.run.trials import synchronise
from eval.stats.bootstrap import interval_of_median

Name = TypeVar("Name", bound=Hashable)


class TimingError(DraftersError):
    """Too few rounds for a median."""


class Ratio(TypedDict):
    """The median of paired ratios with its 95 % bootstrap interval, and how many pairs there are; JSON-ready."""

    median: float
    low: float
    high: float
    n: int


def nothing() -> None:
    """Do nothing: the default of what is done outside the clock."""


def alternate(
    tasks: Mapping[Name, Callable[[], object]],
    rounds: int,
    device: torch.device,
    warm_up: int = 1,
    *,
    least: int = 3,
    cpu_time: bool = False,
    before: Callable[[], object] = nothing,
    after: Mapping[Name, Callable[[], object]] | None = None,
    advance: Callable[[], object] = nothing,
) -> dict[Name, list[float]]:
    """Seconds of every task in every round; odd rounds run backwards, and the first `warm_up` ones are not counted.

    Args:
        least: rounds without which it is refused; by default as many as a median needs.
        cpu_time: the process's own time where work is on the CPU, which other load on the machine does not add to; of a GPU, wall time.
        before, after: done ahead of each task, and behind a task of that name, outside the clock.
        advance: told of every round, those of the warm-up included.

    Raises:
        TimingError: fewer rounds than `least`.
    """
    if rounds < least:
        raise TimingError(f"rounds must be at least {least} for a median, got {rounds}")
    clock = time.process_time if cpu_time and device.type == "cpu" else time.perf_counter
    seconds: dict[Name, list[float]] = {name: [] for name in tasks}
    for number in range(-warm_up, rounds):
        for name in list(tasks) if number % 2 == 0 else list(tasks)[::-1]:
            before()
            synchronise(device)
            start = clock()
            tasks[name]()
            synchronise(device)
            taken = clock() - start
            (after or {}).get(name, nothing)()
            if number >= 0:
                seconds[name].append(taken)
        advance()
    return seconds


def median_seconds(
    task: Callable[[], object], rounds: int, device: torch.device, warm_up: int = 1, *, cpu_time: bool = False
) -> float:
    """The median of one task's seconds; arguments as of `alternate`."""
    return median(alternate({"task": task}, rounds, device, warm_up, cpu_time=cpu_time)["task"])


def median(values: Sequence[float]) -> float:
    """The median of the values, as a float."""
    return float(np.median(values))


def ratio(over: Sequence[float], under: Sequence[float]) -> Ratio:
    """The median of over / under, pair by pair, with its interval; of one pair the interval is that ratio."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    low, high = interval_of_median(ratios)
    middle = median(ratios)
    return Ratio(
        median=middle, low=middle if low is None else low, high=middle if high is None else high, n=len(ratios)
    )


def outside_forwards(models: Sequence[nn.Module], act: Callable[[], object], repeats: int = 5) -> dict[str, float]:
    """CPU seconds of `act` inside and outside of the models, medians by share: {"share", "total", "forwards", "calls"}.

    CPU time, not wall time: other load on the machine does not count. The prompt's forwards are inside. For one process
    whose work is on the CPU; on a GPU forwards return before they are done.
    """
    inside, calls, begun = 0.0, 0, 0.0

    def enter(*_: Any) -> None:
        nonlocal begun
        begun = time.process_time()

    def leave(*_: Any) -> None:
        nonlocal inside, calls
        inside, calls = inside + time.process_time() - begun, calls + 1

    handles = [
        hook
        for model in models
        for hook in (model.register_forward_pre_hook(enter), model.register_forward_hook(leave))
    ]
    try:
        found = []
        for _ in range(repeats + 1):  # the first warms up
            inside, calls = 0.0, 0
            start = time.process_time()
            act()
            total = time.process_time() - start
            found.append((1.0 - inside / total, total, inside, calls))
    finally:
        for handle in handles:
            handle.remove()
    share, total, inside, calls = sorted(found[1:])[repeats // 2]
    return {"share": share, "total": total, "forwards": inside, "calls": calls, "threads": torch.get_num_threads()}
