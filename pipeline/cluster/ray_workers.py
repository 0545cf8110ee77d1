"""A crew: actors that each hold models and take pieces of work from one queue. Work of one that dies is done again by its successor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig

from drafters.distributed.backends.ray import require_ray

RETRIES = 10  # deaths of an actor, and times that a piece of work is tried again because of one
WAITING = 2  # pieces per actor, the one in work included: the next is there when it is wanted


def results(
    ray: Any, kind: type, arguments: tuple[Any, ...], work: Sequence[Any], workers: int, gpus: float = 0.0
) -> Iterator[tuple[int, Any]]:
    """(index, `kind(*arguments).do(work[index])`) of all pieces as they are done, in no certain order.

    Args:
        ray: the module, connected. kind: a class with a method `do`; an object of it lives in each of `workers` processes.
        gpus: of each process; with 0 they share the processors evenly.
    """
    if not work:
        return
    workers = min(workers, len(work))
    share = ray.cluster_resources().get("CPU", 1.0) / workers  # below 1 where they are more than the processors
    cpus = 1.0 if gpus else float(int(share)) or share
    actor = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=RETRIES, max_task_retries=RETRIES)(kind)
    crew = [actor.remote(*arguments) for _ in range(workers)]
    waiting = list(range(len(work)))[::-1]
    running: dict[Any, tuple[int, Any]] = {}
    try:
        for member in crew * WAITING:
            if waiting:
                _give(member, waiting.pop(), work, running)
        while running:
            ready, _ = ray.wait(list(running), num_returns=1)
            index, member = running.pop(ready[0])
            found = ray.get(ready[0])
            if waiting:
                _give(member, waiting.pop(), work, running)
            yield index, found
    finally:
        for member in crew:
            ray.kill(member)


def _give(member: Any, index: int, work: Sequence[Any], running: dict[Any, tuple[int, Any]]) -> None:
    running[member.do.remote(work[index])] = index, member


def size(ray: Any, workers: int | None, gpus: float) -> int:
    """Processes to start: as many as asked for, else as the cluster's GPUs allow, else one per machine."""
    if workers is not None:
        return workers
    if gpus:
        return max(1, int(ray.cluster_resources().get("GPU", 0) // gpus))
    return max(1, sum(bool(node.get("Alive")) for node in ray.nodes()))


def threads(cfg: DictConfig) -> int | None:
    """CPU threads of every process where a number is given; None: the share of the processors that Ray gives it."""
    return cfg.threads if isinstance(cfg.threads, int) else None


def connect(address: str | None) -> Any:
    """The module ray, connected. Raises DistributedError without Ray."""
    return require_ray(address)
