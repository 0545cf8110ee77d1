"""Virtual time: the production coordinator on a heap of events. What takes hours on machines takes milliseconds here.

Its models are right with probability a; SI runs beside it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from drafters.distributed.backend import SilenceError, drive
from drafters.distributed.coordinator import Coordinator
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
from drafters.distributed.plan import Plan

RIGHT, WRONG = 1, 0  # what the drafter says; the target always says RIGHT
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


@dataclass(frozen=True)
class VirtualRun:
    """One request: seconds, forwards of the target and the drafter, servers busy at once."""

    seconds: float
    forwards: int
    drafts: int
    busy: int


def coins(a: float, tokens: int, seed: int) -> np.ndarray:
    """Whether the draft of each position is right: bool (tokens + 1,)."""
    return np.random.default_rng(seed).random(tokens + 1) < a


def run_dsi(right: np.ndarray, delays: Delays, plan: Plan, tokens: int) -> VirtualRun:
    """DSI of `tokens` new tokens. `right`: bool (tokens + 1,), see `coins`."""
    said = [RIGHT if good else WRONG for good in right.tolist()]

    def judge(work: Task | Settle) -> Reply:
        assert isinstance(work, Task)
        accepted = next((place for place, draft in enumerate(work.drafts) if draft.token != RIGHT), len(work.drafts))
        return Reply(work.id, work.server, work.epoch, work.base, accepted, RIGHT)

    def draft(order: DraftOrder, position: int) -> Drafted:
        return Drafted(order.epoch, position, said[position])

    backend = VirtualTimeBackend(delays, judge, draft)
    drive(Coordinator([RIGHT], lambda new: False, tokens + 1, plan), backend)
    return VirtualRun(backend.now, backend.forwards, backend.drafts, backend.most_busy)


def run_si(right: np.ndarray, delays: Delays, lookahead: int, tokens: int) -> VirtualRun:
    """SI with the same drafts: a round drafts, then verifies; the last one drafts no more than it can use."""
    position, seconds, forwards, drafts = 0, 0.0, 0, 0
    while position < tokens:
        length = min(lookahead, tokens - position - 1)
        wrong = np.flatnonzero(~right[position + 1 : position + 1 + length])
        position += (int(wrong[0]) if len(wrong) else length) + 1
        seconds += length * delays.d + delays.t
        forwards, drafts = forwards + 1, drafts + length
    return VirtualRun(seconds, forwards, drafts, 1)


def mean_seconds(
    a: float, delays: Delays, plan: Plan | int, tokens: int, repeats: int, seed: int = 0
) -> tuple[float, float]:
    """Mean seconds of a request and its standard error. `plan`: of DSI, or the lookahead of SI."""
    values = []
    for repeat in range(repeats):
        right = coins(a, tokens, seed + repeat)
        run = run_si(right, delays, plan, tokens) if isinstance(plan, int) else run_dsi(right, delays, plan, tokens)
        values.append(run.seconds)
    spread = float(np.std(values, ddof=1)) if repeats > 1 else 0.0
    return float(np.mean(values)), spread / repeats**0.5
