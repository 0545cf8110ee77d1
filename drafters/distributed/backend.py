"""What the coordinator needs of the world, and the loop that joins the two."""

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
    """Nothing happened for too long."""


@dataclass
class Ledger:
    """Numbers that the servers have not met yet."""

    epoch: int = 0
    ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))


class Backend(Protocol):
    """Where drafter and target servers live. Actions are orders, not calls: none of them waits."""

    def perform(self, action: Action) -> None:
        """Pass an action on to whom it concerns. Never fails because somebody died: that is an event."""
        ...

    def next(self) -> Event:
        """The next thing that happened; waits for it. Raises SilenceError where nothing happens any more."""
        ...


def drive(coordinator: Coordinator, backend: Backend) -> None:
    """Run a request to its end."""
    actions = coordinator.start()
    while True:
        for action in actions:
            backend.perform(action)
        if coordinator.finished:
            return
        actions = coordinator.handle(backend.next())
