"""Virtual time: the production coordinator on a heap of events. What takes hours on machines takes milliseconds here."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from drafters.distributed.backend import SilenceError
from drafters.distributed.messages import (
    Action,
    Allow,
    Cancel,
    Drafted,
    DraftOrder,
    Event,
    Reply,
    Settle,
    Task,
)

Judge = Callable[[Task | Settle], Reply]
Drafter = Callable[[DraftOrder, int], Drafted]  # what was ordered, and the position: the token there


@dataclass(frozen=True)
class Delays:
    """Seconds. A verification takes t, a draft d, a message nothing.

    `preempt`: servers leave cancelled work at once; otherwise they finish it first. The drafter always turns round at once.
    """

    t: float
    d: float
    preempt: bool = True


class VirtualTimeBackend:
    """See Backend; `now` is the time, in seconds. Events of one moment come in the order in which they were caused."""

    def __init__(self, delays: Delays, judge: Judge, drafter: Drafter):
        self.delays, self._judge, self._drafter = delays, judge, drafter
        self.now, self.forwards, self.drafts = 0.0, 0, 0
        self.most_busy = 0  # target servers that worked for the epoch of their time at once
        self._heap: list[tuple[float, int, Event]] = []
        self._count = 0
        self._void: set[int] = set()  # numbers of events that will not come
        self._tasks: dict[int, tuple[Task, int]] = {}  # at work: task id -> task and the number of its reply
        self._order: DraftOrder | None = None
        self._position = self._until = 0
        self._drafting: int | None = None  # number of the event that ends the drafter's forward
        self._epoch = 0

    def perform(self, action: Action) -> None:
        """Enter what an action causes at its virtual time, in seconds; see `Backend.perform`."""
        match action:
            case Task():
                self.forwards += 1
                self._tasks[action.id] = action, self._at(self.now + self.delays.t, self._judge(action))
                current = sum(task.epoch >= self._epoch for task, _ in self._tasks.values())
                self.most_busy = max(self.most_busy, current)
            case Settle():
                self._at(self.now, self._judge(action))
            case DraftOrder(prefix=prefix, until=until):
                if self._drafting is not None:
                    self._void.add(self._drafting)
                self._order, self._position, self._until, self._drafting = action, len(prefix), until, None
                self._draft()
            case Allow(epoch=epoch, until=until):
                if self._order is not None and epoch == self._order.epoch:
                    self._until = until
                    self._draft()
            case Cancel(epoch=epoch):
                self._epoch = epoch
                self._cancel()

    def next(self) -> Event:
        """Move the clock to the earliest event and return that; see `Backend.next`."""
        while self._heap:
            self.now, number, event = heapq.heappop(self._heap)
            if number in self._void:
                self._void.remove(number)
                continue
            if isinstance(event, Reply):
                self._tasks.pop(event.id, None)
            elif isinstance(event, Drafted):
                self._drafting = None
                self._position += 1
                if event.closed:
                    self._order = None
                self._draft()
            return event
        raise SilenceError("virtual time: nothing is going on and the request has not ended")

    def _draft(self) -> None:
        if self._drafting is not None or self._order is None or self._position >= self._until:
            return
        self.drafts += 1
        self._drafting = self._at(self.now + self.delays.d, self._drafter(self._order, self._position))

    def _cancel(self) -> None:
        if not self.delays.preempt:
            return
        for task, number in list(self._tasks.values()):
            if task.epoch < self._epoch:
                del self._tasks[task.id]
                self._void.add(number)
                self._at(self.now, Reply(task.id, task.server, task.epoch, task.base, 0, dropped=True))

    def _at(self, time: float, event: Event) -> int:
        self._count += 1
        heapq.heappush(self._heap, (time, self._count, event))
        return self._count
