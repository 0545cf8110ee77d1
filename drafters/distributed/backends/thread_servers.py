"""Servers as threads of this process, which share the weights: no speed is won on one device, but all of the logic runs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from drafters.distributed.backend import DistributedError, Ledger, SilenceError
from drafters.distributed.messages import (
    Action,
    Cancel,
    Event,
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


@dataclass(frozen=True)
class Failed:
    """A thread met an exception that is no part of the protocol."""

    error: BaseException


class ThreadsBackend:
    """A cluster of threads (see `Cluster`). As a context manager it ends them at the end of the block."""

    def __init__(self, pair: Pair, servers: int, patience: float = PATIENCE):
        self.ledger = Ledger()
        self._events: queue.SimpleQueue[Event | Failed] = queue.SimpleQueue()
        self._work: list[queue.SimpleQueue[Task | Settle | Request | None]] = []
        self._threads: list[threading.Thread] = []
        self.patience, self._epoch = patience, 0
        self._drafter = DraftLoop(DraftServer(pair), self._events.put)
        self._hooks = checked_layers(pair)
        self._start(self._drafter.run)
        for number in range(servers):
            self._work.append(queue.SimpleQueue())
            self._start(partial(self._serve, TargetServer(pair, number), self._work[number]))

    def __enter__(self) -> ThreadsBackend:
        self._hooks.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self._epoch = 1 << 62
        self._drafter.tell(Cancel(self._epoch))
        self._drafter.close()
        for work in self._work:
            work.put(None)
        for thread in self._threads:
            thread.join()
        self._hooks.__exit__(None, None, None)

    def open(self, request: Request) -> None:
        """Begin a request: every server reads its prompt, side by side."""
        self._drafter.tell(request)
        for work in self._work:
            work.put(request)

    def perform(self, action: Action) -> None:
        """Pass an action on to the threads it concerns, without waiting; see `Backend.perform`."""
        if isinstance(action, Task | Settle):
            self._work[action.server].put(action)
            return
        if isinstance(action, Cancel):
            self._epoch = action.epoch
        self._drafter.tell(action)

    def next(self) -> Event:
        """See Backend.next. Raises DistributedError after an exception in a thread, or `patience` seconds of silence."""
        try:
            event = self._events.get(timeout=self.patience)
        except queue.Empty:
            raise SilenceError(f"nothing happened for {self.patience:g} s; is a model stuck?") from None
        if isinstance(event, Failed):
            raise DistributedError(f"a server failed: {type(event.error).__name__}: {event.error}") from event.error
        return event

    def _start(self, run: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                run()
            except BaseException as error:
                self._events.put(Failed(error))

        self._threads.append(threading.Thread(target=guarded, daemon=True))
        self._threads[-1].start()

    def _serve(self, server: TargetServer, work: queue.SimpleQueue[Task | Settle | Request | None]) -> None:
        while (item := work.get()) is not None:
            if isinstance(item, Request):
                server.open(item)
            else:
                self._events.put(server.verify(item, partial(self._wanted, item.epoch)))

    def _wanted(self, epoch: int) -> bool:
        return epoch >= self._epoch
