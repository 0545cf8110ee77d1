"""Counting on Ray: segments of text go out as tasks, which a dead worker's successor does again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from drafters.distributed.backends.ray import require_ray
from drafters.vocab.counting.pretokens import EncodingPlan
from pipeline.count.ray_task import count_segment

BATCHES = 6  # of about a million characters: one task, done again as a whole; the count waits for the last ones
WAITING = 2  # tasks per worker, the running one included: enough to keep it busy, little enough to bound memory
RETRIES = 10  # of a task whose worker died


class RayFanout:
    """See drafters.vocab.counting.processes.Others. Texts stay in the object store until they are counted, so that a
    death costs time only."""

    def __init__(self, ray: Any, workers: int, tokenizer_json: str, plan: EncodingPlan, size: int):
        self._ray = ray
        self._workers = workers
        self._task = ray.remote(num_cpus=1, max_retries=RETRIES)(count_segment)
        self._fixed = ray.put(tokenizer_json), ray.put(plan), size
        self._segment: list[list[tuple[str, str]]] = []
        self._running: list[Any] = []
        self._done: list[tuple[dict[str, np.ndarray], int]] = []

    def __enter__(self) -> RayFanout:
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._running:  # of a count that was given up
            self._ray.cancel(task, force=True)

    def offer(self, batch: list[tuple[str, str]]) -> bool:
        """Take a batch of texts, or return False where no worker has room; see `Others.offer`."""
        if not self._segment and not self._has_room():
            return False
        self._segment.append(batch)
        if len(self._segment) >= BATCHES:
            self._submit()
        return True

    def close(self) -> None:
        """Submit the last, unfilled segment; see `Others.close`."""
        if self._segment:
            self._submit()

    def results(self) -> Iterator[tuple[dict[str, np.ndarray], int]]:
        """Yield counts per domain and plainly encoded texts, task by task; see `Others.results`."""
        yield from self._done
        while self._running:
            ready, self._running = self._ray.wait(self._running)
            yield self._ray.get(ready[0])

    def _has_room(self) -> bool:
        if self._running:
            ready, self._running = self._ray.wait(self._running, num_returns=len(self._running), timeout=0)
            self._done += self._ray.get(ready)
        return len(self._running) < WAITING * self._workers

    def _submit(self) -> None:
        self._running.append(self._task.remote(*self._fixed, *map(self._ray.put, self._segment)))
        self._segment = []


def ray_fanout(address: str | None) -> Any:
    """What `drafters.vocab.counting.counts.count_tokens` takes as `fanout`. Raises DistributedError without Ray."""
    return partial(RayFanout, require_ray(address))


def cluster_workers(address: str | None) -> int:
    """Processors of the cluster: as many tasks may run at once."""
    return max(1, int(require_ray(address).cluster_resources().get("CPU", 1)))
