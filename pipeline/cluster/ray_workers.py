"""Ray actors that each hold models and take work from one queue; what one that dies was doing is done again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from drafters.distributed.backends.ray import require_ray

RETRIES = 10  # deaths of an actor, and times that a piece of work is tried again because of one
WAITING = 2  # pieces per actor, the one in work included: the next is there when it is wanted


@dataclass(frozen=True)
class Crew:
    """The processes that share the work, as `hardware` asks for them."""

    address: str | None  # of a running cluster; None: Ray is started on this machine
    workers: int | None  # None: as many as the GPUs allow, else one per machine
    gpus: float  # of each process; with 0 they share the processors evenly
    threads: int | None  # of each process; None: the share of the processors that Ray gives it


def results(crew: Crew, kind: type, arguments: tuple[Any, ...], work: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """(index, `kind(*arguments).do(work[index])`) of all pieces as they are done, in no certain order.

    Args:
        kind: a class with a method `do`; an object of it lives in each process.

    Raises:
        DistributedError: no Ray, or no answer from it.
    """
    if not work:
        return
    ray, gpus = connect(crew.address), crew.gpus
    workers = min(size(ray, crew), len(work))
    share = ray.cluster_resources().get("CPU", 1.0) / workers  # below 1 where they are more than the processors
    cpus = 1.0 if gpus else float(int(share)) or share
    actor = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=RETRIES, max_task_retries=RETRIES)(kind)
    actors = [actor.remote(*arguments) for _ in range(workers)]
    waiting = list(range(len(work)))[::-1]
    running: dict[Any, tuple[int, Any]] = {}
    try:
        for member in actors * WAITING:
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
        for member in actors:
            ray.kill(member)


def _give(member: Any, index: int, work: Sequence[Any], running: dict[Any, tuple[int, Any]]) -> None:
    running[member.do.remote(work[index])] = index, member


def size(ray: Any, crew: Crew) -> int:
    """Processes to start: as many as asked for, else as the cluster's GPUs allow, else one per machine."""
    if crew.workers is not None:
        return crew.workers
    if crew.gpus:
        return max(1, int(ray.cluster_resources().get("GPU", 0) // crew.gpus))
    return max(1, sum(bool(node.get("Alive")) for node in ray.nodes()))


def connect(address: str | None) -> Any:
    """The module ray, connected. Raises DistributedError without Ray."""
    return require_ray(address)
