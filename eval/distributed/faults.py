"""Everything that may go wrong between coordinator and servers: messages late, out of order, twice or never; deaths and returns."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from drafters.distributed.backend import Backend, DistributedError, Ledger, SilenceError
from drafters.distributed.executor import Cluster, MakeCluster
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
from drafters.engine.transformers_pair import Pair

LONGEST = 120.0  # seconds of silence after which a request is given up


@dataclass(frozen=True)
class Faults:
    """Probabilities, per event, of each thing that can go wrong between coordinator and servers."""

    late: float = 0.3  # it waits while others pass
    twice: float = 0.1
    never: float = 0.1  # a verdict is reported lost some time later; a draft silently never arrives
    death: float = 0.03  # of a server that just answered; it returns some time later


class Unreliable:
    """`backend` with faults. At least one server is always up, or about to return."""

    def __init__(self, backend: Backend, faults: Faults, seed: int, silences: int = 20):
        self._backend, self._faults, self._random = backend, faults, random.Random(seed)
        self._waiting: list[Event] = []
        self._work: dict[int, int] = {}  # ordered: id -> server
        self._buried: set[int] = set()  # ids whose replies died with their server
        self._silences, self._most = 0, silences  # in a row
        self.deaths = 0

    def perform(self, action: Action) -> None:
        """See Backend.perform. Orders to cancel may get lost too: they only save work."""
        if isinstance(action, Task | Settle):
            self._work[action.id] = action.server
        if not (isinstance(action, Cancel) and self._random.random() < self._faults.never):
            self._backend.perform(action)

    def next(self) -> Event:
        """See Backend.next. Raises DistributedError if telling the drafter again does not bring anything about."""
        while True:
            if not self._waiting or self._random.random() > self._faults.late:
                self._pull()
            if self._waiting:
                event = self._waiting.pop(self._random.randrange(len(self._waiting)))
                if self._random.random() < self._faults.twice:
                    self._waiting.append(event)
                if isinstance(event, ServerLost):
                    self._bury(event.server)
                if not self._swallowed(event):
                    self._silences = 0
                    return event
            else:
                self._silences += 1
                if self._silences > self._most:
                    raise DistributedError("nothing happens any more and the request has not ended")
                return DrafterLost()

    def _pull(self) -> None:
        """Bring in what happens next, and the faults that it suffers."""
        try:
            event = self._backend.next()
        except SilenceError:
            return
        self._waiting.append(event)
        if isinstance(event, Reply) and self._random.random() < self._faults.death:
            self.deaths += 1
            self._waiting.append(ServerLost(event.server))

    def _bury(self, server: int) -> None:
        """What the server was doing is lost, unless its answer is on the way; the server returns."""
        self._waiting.append(ServerJoined(server))
        under_way = {event.id for event in self._waiting if isinstance(event, Reply)}
        self._buried |= {id for id, its in self._work.items() if its == server} - under_way

    def _swallowed(self, event: Event) -> bool:
        if isinstance(event, Reply) and event.id in self._buried:
            return True
        if self._random.random() >= self._faults.never:
            return False
        if isinstance(event, Reply):
            self._waiting.append(Lost(event.id))
        return isinstance(event, Reply | Drafted)


class FaultyCluster:
    """A cluster whose messages come late, twice or never and whose servers die; see `executor.Cluster`."""

    def __init__(self, cluster: Any, faults: Faults, seed: int, patience: float):
        cluster.patience = patience
        self._cluster, self._post = cluster, Unreliable(cluster, faults, seed, int(LONGEST / patience))

    @property
    def ledger(self) -> Ledger:
        """The ledger of the cluster inside."""
        return self._cluster.ledger

    @ledger.setter
    def ledger(self, value: Ledger) -> None:
        self._cluster.ledger = value

    def open(self, request: Request) -> None:
        """Begin a request on every server and the drafter, without faults; see `Cluster.open`."""
        self._cluster.open(request)

    def perform(self, action: Action) -> None:
        """Pass an action on, perhaps late, twice or never; see `Backend.perform`."""
        self._post.perform(action)

    def next(self) -> Event:
        """The next event that was not lost; waits for it. See `Backend.next`."""
        return self._post.next()


class Faulty:
    """Makes faulty clusters of `clusters` (see executor.MakeCluster), another seed for every request.

    Args:
        patience: seconds of silence after which the drafter is told again; more than any forward takes.
        kill_every: so many requests apart a server process is killed, on a cluster that has processes.
    """

    def __init__(self, clusters: MakeCluster, faults: Faults, patience: float, kill_every: int | None = None):
        self._clusters, self._faults, self._kill_every = clusters, faults, kill_every
        self._patience, self._requests = patience, 0

    @contextmanager
    def __call__(self, pair: Pair, servers: int) -> Iterator[Cluster]:
        """See executor.MakeCluster."""
        self._requests += 1
        with self._clusters(pair, servers) as cluster:
            made = FaultyCluster(cluster, self._faults, self._requests, self._patience)
            if self._kill_every and self._requests % self._kill_every == 0:
                cluster.kill(self._requests // self._kill_every % servers)  # type: ignore[attr-defined]
            yield made
