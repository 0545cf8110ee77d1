"""Decoding in virtual time: the production coordinator on models that are right with probability a, and SI beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drafters.distributed.backend import drive
from drafters.distributed.coordinator import Coordinator
from drafters.distributed.messages import Drafted, DraftOrder, Reply, Settle, Task
from drafters.distributed.plan import Plan
from eval.distributed.virtual_time import Delays, VirtualTimeBackend

RIGHT, WRONG = 1, 0  # what the drafter says; the target always says RIGHT


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
