"""A double of Ray for actors: threads for processes, futures for references, deaths on command."""

from __future__ import annotations

import threading
import types
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

LOADING = threading.Lock()  # transformers loads models one at a time in a process; real actors have one each


class ActorRay:
    """As much of Ray as `pipeline.cluster.ray_workers` uses. `deaths`: indices of calls whose actor dies before it answers."""

    def __init__(self, deaths=(), cpus=4.0, gpus=0.0, nodes=1):
        self.deaths, self.calls, self.made, self.killed = set(deaths), 0, 0, 0
        self.resources, self.count, self.options = {"CPU": cpus, "GPU": gpus}, nodes, {}

    def cluster_resources(self):
        return self.resources

    def nodes(self):
        return [{"Alive": True}] * self.count + [{"Alive": False}]

    def remote(self, **options):
        self.options = options
        return lambda kind: types.SimpleNamespace(remote=lambda *arguments: Actor(self, kind, arguments))

    def wait(self, refs, num_returns=1):
        done, _ = wait(refs, return_when=FIRST_COMPLETED)
        first = next(ref for ref in refs if ref in done)
        return [first], [ref for ref in refs if ref is not first]

    def get(self, ref):
        return ref.result()

    def kill(self, actor):
        self.killed += 1
        actor.pool.shutdown(cancel_futures=True)


class Actor:
    """An object in a thread. One that dies is made anew and does its piece again, as Ray's max_task_retries promises."""

    def __init__(self, ray, kind, arguments):
        self.ray, self.pool = ray, ThreadPoolExecutor(1)
        self.make = lambda: kind(*arguments)
        self.object = self._begin()
        self.do = types.SimpleNamespace(remote=self._do)

    def _begin(self):
        with LOADING:
            self.ray.made += 1
            return self.make()

    def _do(self, piece) -> Future:
        call, self.ray.calls = self.ray.calls, self.ray.calls + 1

        def work():
            if call in self.ray.deaths:
                self.object = self._begin()
            return self.object.do(piece)

        return self.pool.submit(work)
