"""Servers and drafter as Ray actors: one process each, on this machine or on a cluster, with a GPU each where there are any."""

from __future__ import annotations

import importlib
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from drafters.distributed.backend import DistributedError, Ledger, SilenceError
from drafters.distributed.messages import (
    Action,
    Cancel,
    Drafted,
    DrafterLost,
    Event,
    Lost,
    Reply,
    ServerJoined,
    ServerLost,
    Settle,
    Task,
)
from drafters.distributed.request import Request
from drafters.distributed.servers.cancel import checked_layers
from drafters.distributed.servers.draft_loop import DraftLoop
from drafters.distributed.servers.draft_server import DraftServer
from drafters.distributed.servers.target_server import TargetServer
from drafters.engine.transformers_pair import Pair

PATIENCE = 300.0  # seconds without any event after which a request is given up
RESTARTS = 20  # actors that may die before something is wrong with all of them
DRAFTER = -1


def require_ray(address: str | None = None) -> Any:
    """The module ray, connected. Raises DistributedError saying what to install, or why there is no connection."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # actors without a GPU are no reason to hide them
    try:  # by name: an extra that only those who ask for it need
        ray = importlib.import_module("ray")
    except ModuleNotFoundError:
        raise DistributedError(
            "Ray is not installed: pip install 'drafters[ray]' (in a clone: .venv/bin/pip install -c constraints.txt ray), or "
            "choose executor.backend=threads"
        ) from None
    if not ray.is_initialized():
        try:
            options = {} if address else {"include_dashboard": False}
            ray.init(address=address, log_to_driver=False, configure_logging=False, **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise DistributedError(f"executor.address={address}: Ray does not start or answer: {error}") from error
    return ray


class TargetActor:
    """One target server in its process. Two threads: forwards in one, `cancel` and `settle` reach it meanwhile."""

    def __init__(self, pair: Pair, number: int):
        self._server, self._epoch = TargetServer(pair, number), -1
        checked_layers(pair).__enter__()

    def open(self, request: Request) -> None:
        """Fill the server's cache with the request's prompt; see `TargetServer.open`."""
        self._server.open(request)

    def verify(self, work: Task | Settle) -> Reply:
        """Return the verdict, a dropped one if the work's epoch was cancelled; see `TargetServer.verify`."""
        return self._server.verify(work, lambda: work.epoch >= self._epoch)

    def cancel(self, epoch: int) -> None:
        """Abandon the work of epochs before this one."""
        self._epoch = max(self._epoch, epoch)


class DrafterActor:
    """The drafter in its process: a thread drafts, `tell` orders, `poll` takes what was drafted."""

    def __init__(self, pair: Pair):
        self._drafted: queue.SimpleQueue[Drafted | BaseException] = queue.SimpleQueue()
        self._loop = DraftLoop(DraftServer(pair), self._drafted.put)
        checked_layers(pair).__enter__()
        threading.Thread(target=self._run, daemon=True).start()

    def tell(self, order: Any) -> None:
        """Pass an order to the drafting thread and return at once; see `DraftLoop.tell`."""
        self._loop.tell(order)

    def poll(self) -> list[Drafted]:
        """All that was drafted since the last call; waits for the first."""
        found = [self._drafted.get()]
        while not self._drafted.empty():
            found.append(self._drafted.get())
        for item in found:
            if isinstance(item, BaseException):
                raise item
        return [item for item in found if isinstance(item, Drafted)]

    def _run(self) -> None:
        try:
            self._loop.run()
        except BaseException as error:
            self._drafted.put(error)


class RayCluster:
    """A cluster of Ray actors (see `Cluster`). Those that die are started again, and their work is done again."""

    def __init__(self, ray: Any, pair: Pair, servers: int, gpus: float = 0):
        self.ledger, self.patience = Ledger(), PATIENCE
        self._ray, self._pair, self._gpus = ray, ray.put(pair), gpus
        self._refs: dict[Any, tuple[str, int, int]] = {}  # pending answer -> what it is, of whom, id
        self._ready: list[Event] = []
        self._request: Request | None = None
        self._deaths = 0
        self.actors = {number: self._start(number) for number in range(servers)}
        self.actors[DRAFTER] = self._start(DRAFTER)
        self._poll()

    def open(self, request: Request) -> None:
        """Begin a request: every server reads its prompt, side by side. Servers go on to it when they are through with the last one."""
        self._request = request
        for number, actor in self.actors.items():
            if number == DRAFTER:
                actor.tell.options(concurrency_group="control").remote(request)
            else:
                self._refs[actor.open.options(concurrency_group="work").remote(request)] = "open", number, 0

    def perform(self, action: Action) -> None:
        """Send an action to the actors it concerns, without waiting; see `Backend.perform`."""
        if isinstance(action, Task | Settle):
            group = "work" if isinstance(action, Task) else "control"
            answer = self.actors[action.server].verify.options(concurrency_group=group).remote(action)
            self._refs[answer] = "verify", action.server, action.id
            return
        if isinstance(action, Cancel):
            for number, actor in self.actors.items():
                if number != DRAFTER:
                    actor.cancel.options(concurrency_group="control").remote(action.epoch)
        self.actors[DRAFTER].tell.options(concurrency_group="control").remote(action)

    def next(self) -> Event:
        """See Backend.next.

        Raises DistributedError where an actor failed or more than RESTARTS died, SilenceError after `patience` seconds of silence.
        """
        while not self._ready:
            done, _ = self._ray.wait(list(self._refs), num_returns=1, timeout=self.patience)
            if not done:
                raise SilenceError(f"nothing happened for {self.patience:g} s; are all actors placed? See `ray status`")
            self._take(done[0])
        return self._ready.pop(0)

    def kill(self, number: int) -> None:
        """Kill a server (or DRAFTER) as a failing machine would; for tests and drills."""
        self._ray.kill(self.actors[number])

    def close(self) -> None:
        """Kill all actors; their requests end with them."""
        for actor in self.actors.values():
            self._ray.kill(actor)

    def _take(self, ref: Any) -> None:
        kind, number, id = self._refs.pop(ref)
        try:
            answer = self._ray.get(ref)
        except self._ray.exceptions.RayActorError:
            self._restart(number, kind, id)
            return
        except self._ray.exceptions.RayTaskError as error:
            raise DistributedError(f"a server failed: {error.cause}") from error
        if kind == "verify":
            self._ready.append(answer)
        elif kind == "poll":
            self._ready += answer
            self._poll()
        elif kind == "rejoin":
            self._ready.append(ServerJoined(number))

    def _restart(self, number: int, kind: str, id: int) -> None:
        """Bring a dead actor back; all its other pending answers fail by themselves and are only dropped."""
        if kind == "verify":
            self._ready.append(Lost(id))
        doomed = [ref for ref, (_, its, _) in self._refs.items() if its == number]
        for ref in doomed:
            del self._refs[ref]
        self._deaths += 1
        if self._deaths > RESTARTS:
            raise DistributedError(
                f"{self._deaths} servers died; the last one was {'the drafter' if number < 0 else number}"
            )
        self.actors[number] = actor = self._start(number)
        if number == DRAFTER:
            if self._request is not None:
                actor.tell.options(concurrency_group="control").remote(self._request)
            self._poll()
            self._ready.append(DrafterLost())
        else:
            self._ready.append(ServerLost(number))
            if self._request is not None:
                self._refs[actor.open.options(concurrency_group="work").remote(self._request)] = "rejoin", number, 0

    def _start(self, number: int) -> Any:
        kind, arguments = (DrafterActor, ()) if number == DRAFTER else (TargetActor, (number,))
        resources = {"num_cpus": 1, "num_gpus": self._gpus} if self._gpus else {"num_cpus": 0}
        groups = {"work": 1, "control": 1}
        remote = self._ray.remote(**resources, concurrency_groups=groups)(kind)
        return remote.remote(self._pair, *arguments)

    def _poll(self) -> None:
        self._refs[self.actors[DRAFTER].poll.options(concurrency_group="work").remote()] = "poll", DRAFTER, 0


class RayClusters:
    """Makes clusters and keeps them: actors and weights stay from one decode call to the next (see executor.MakeCluster)."""

    def __init__(self, address: str | None = None, gpus: float = 0):
        self._ray = require_ray(address)
        self._gpus = gpus
        self._known: dict[tuple[int, int], tuple[Pair, RayCluster]] = {}

    @contextmanager
    def __call__(self, pair: Pair, servers: int) -> Iterator[RayCluster]:
        """The cluster of this pair and so many servers."""
        key = id(pair), servers
        if key not in self._known:
            self._known[key] = pair, RayCluster(self._ray, pair, servers, self._gpus)
        yield self._known[key][1]

    def close(self) -> None:
        """End all actors of all clusters."""
        for _, cluster in self._known.values():
            cluster.close()
        self._known.clear()
