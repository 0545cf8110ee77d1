"""The protocol of the servers that a coordinator drives, and the loop that drives them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Protocol

from drafters.distributed.coordinator import Coordinator
from drafters.distributed.messages import Action, Event
from drafters.errors import DraftersError


class DistributedError(DraftersError):
    """The servers or the drafter cannot go on; the message says why and what helps."""


class SilenceError(DistributedError):
    """No event came for longer than the backend's patience."""


@dataclass
class Ledger:
    """Keeps epochs and work ids unique over all requests that the same servers worked for."""

    epoch: int = 0
    ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))


class Backend(Protocol):
    """Where drafter and target servers live. Actions are orders, not calls: none of them waits."""

    def perform(self, action: Action) -> None:
        """Pass an action on to the servers it concerns. A dead one raises nothing here: `next` reports it."""
        ...

    def next(self) -> Event:
        """The next thing that happened; waits for it. Raises SilenceError where nothing happens any more."""
        ...


def drive(coordinator: Coordinator, backend: Backend) -> None:
    """Run a request to its end: perform actions and handle events until the coordinator has finished."""
    actions = coordinator.start()
    while True:
        for action in actions:
            backend.perform(action)
        if coordinator.finished:
            return
        actions = coordinator.handle(backend.next())
