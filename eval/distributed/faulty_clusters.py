"""Clusters on which everything goes wrong that may, see `eval.distributed.faults`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from drafters.distributed.backend import Ledger
from drafters.distributed.executor import Cluster, MakeCluster
from drafters.distributed.messages import Action, Event
from drafters.distributed.request import Request
from drafters.engine.transformers_pair import Pair
from eval.distributed.faults import Faults, Unreliable

LONGEST = 120.0  # seconds of silence after which a request is given up


class FaultyCluster:
    """A cluster behind an unreliable post. See executor.Cluster."""

    def __init__(self, cluster: Any, faults: Faults, seed: int, patience: float):
        cluster.patience = patience
        self._cluster, self._post = cluster, Unreliable(cluster, faults, seed, int(LONGEST / patience))

    @property
    def ledger(self) -> Ledger:
        """The cluster's own."""
        return self._cluster.ledger

    @ledger.setter
    def ledger(self, value: Ledger) -> None:
        self._cluster.ledger = value

    def open(self, request: Request) -> None:
        """See Cluster.open."""
        self._cluster.open(request)

    def perform(self, action: Action) -> None:
        """See Backend.perform."""
        self._post.perform(action)

    def next(self) -> Event:
        """See Backend.next."""
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
