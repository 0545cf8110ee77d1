"""The coordinator under every schedule: what is committed depends on models and coins alone."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drafters.distributed.backend import DistributedError, drive
from drafters.distributed.coordinator import Coordinator
from drafters.distributed.messages import Cancel, Drafted, Reply, ServerLost, Settle, Task
from drafters.distributed.plan import Plan
from eval.distributed.faults import Faults, Unreliable
from eval.distributed.virtual_time import Delays, VirtualTimeBackend

EOS, MISS = 0, -1


def chance(seed, what, prefix):
    """A number in [0, 1) that depends on the whole prefix, as models and position-keyed coins do."""
    return random.Random(f"{seed} {what} {prefix}").random()


class Toy:
    """A drafter, and a target whose verdict on a draft is a function of the prefix.

    `holds`: as chain rejection, decided draft by draft; otherwise as a race, where the target has a token of its own.
    """

    def __init__(self, seed, holds, right=0.7, fickle=False):
        self.seed, self.holds, self.right, self.fickle = seed, holds, right, fickle
        self.rows, self.order_epoch, self.line, self.calls = {}, -1, [], 0

    def draft(self, prefix):
        """The drafter's token, MISS, or None where it cannot draft."""
        u = chance(self.seed, "draft", list(prefix))
        return None if u < 0.03 else MISS if u < 0.06 and self.holds else int(u * 1e6) % 5

    def decide(self, prefix, draft):
        """The token that is committed behind the prefix."""
        self.calls += self.fickle  # servers that do not agree with each other
        u = chance(self.seed, f"accept {self.calls}", list(prefix))
        own = int(u * 1e6) % 5
        if not self.holds:
            return self.draft(prefix) if u < self.right and self.draft(prefix) is not None else own
        if draft is None or draft == MISS or u >= self.right:
            return own if own != draft else (own + 1) % 5
        return draft

    def sequential(self, prompt, limit):
        tokens = list(prompt)
        while len(tokens) < limit and (tokens[-1] != EOS or len(tokens) == len(prompt)):
            tokens.append(self.decide(tokens, self.draft(tokens)))
        return tokens

    def judge(self, work):
        """The verdict of a server that has the models and the coins, and nothing else."""
        if isinstance(work, Settle):
            prefix = self.rows.get((work.server, work.row))
            if prefix is None:
                return Reply(work.id, work.server, work.epoch, work.position, 0, dropped=True)
            token = self.decide(prefix, work.draft.token)
            same = token == work.draft.token
            return Reply(work.id, work.server, work.epoch, work.position, int(same), None if same else token)
        prefix = list(work.prefix)
        for place, draft in enumerate(work.drafts):
            token = self.decide(prefix, draft.token)
            if token != draft.token:
                return Reply(work.id, work.server, work.epoch, work.base, place, token)
            prefix.append(token)
        self.rows[work.server, work.id] = prefix
        last = None if self.holds else self.decide(prefix, None)
        return Reply(work.id, work.server, work.epoch, work.base, len(work.drafts), last, held=self.holds)

    def drafter(self, order, position):
        if order.epoch != self.order_epoch or position == len(order.prefix):
            self.order_epoch, self.line = order.epoch, list(order.prefix)
        assert len(self.line) == position
        token = self.draft(self.line)
        if token is not None:
            self.line.append(token)
        closed = token is None or token in (EOS, MISS)
        boundary = chance(self.seed, "boundary", self.line) < 0.1
        return Drafted(order.epoch, position, token, boundary=boundary, closed=closed)


class Watched:
    """A backend that checks what the coordinator may never do."""

    def __init__(self, backend, coordinator, expected):
        self.backend, self.coordinator, self.expected = backend, coordinator, expected
        self.epoch, self.work, self.committed, self.event = -1, {}, list(coordinator.tokens), None

    def perform(self, action):
        if isinstance(action, Task | Settle):
            assert action.id not in self.work
            self.work[action.id] = action
            assert action.epoch == self.coordinator.epoch
        if isinstance(action, Task):
            assert list(action.prefix) == self.coordinator.tokens
            assert action.server in self.coordinator.servers
        if isinstance(action, Cancel):
            assert action.epoch > self.epoch
            self.epoch = action.epoch
        self.backend.perform(action)

    def next(self):
        self.check()
        self.event = self.backend.next()
        return self.event

    def check(self):
        """What was committed stays, follows from the verdict that came, and is what plain decoding would give."""
        tokens = self.coordinator.tokens
        assert tokens[: len(self.committed)] == self.committed
        grown = len(tokens) - len(self.committed)
        self.committed = list(tokens)
        if grown:
            work, reply = self.work[self.event.id], self.event
            drafts = work.drafts if isinstance(work, Task) else [work.draft]
            said = [draft.token for draft in drafts[: reply.accepted]] + [reply.token] * (reply.token is not None)
            assert tokens[reply.base :] == said[: len(tokens) - reply.base]
        assert self.expected is None or tokens == self.expected[: len(tokens)]


def run(seed, make=Coordinator, faults=None, fickle=False):
    """One request on a random schedule; returns the coordinator. Raises AssertionError or DistributedError."""
    rng = random.Random(seed)
    toy = Toy(seed, rng.random() < 0.5, rng.choice([0.0, 0.5, 0.8, 1.0]), fickle)
    prompt = [rng.randrange(1, 5) for _ in range(rng.randrange(1, 4))]
    limit = len(prompt) + rng.randrange(1, 25)
    expected = None if fickle else toy.sequential(prompt, limit)
    plan = Plan(rng.randrange(1, 6), rng.randrange(1, 5))
    virtual = VirtualTimeBackend(
        Delays(rng.uniform(0.5, 20), rng.uniform(0.5, 3), rng.random() < 0.5), toy.judge, toy.drafter
    )
    coordinator = make(prompt, lambda new: new[-1] == EOS, limit, plan, holds=toy.holds)
    backend = Unreliable(virtual, faults or Faults(), seed)
    watched = Watched(backend, coordinator, expected)
    drive(coordinator, watched)
    watched.check()
    assert coordinator.finished
    assert expected is None or coordinator.tokens == expected
    drain(coordinator, backend)
    return coordinator


def drain(coordinator, backend):
    """After the end nothing is ordered, and whatever was under way is accounted for."""
    for _ in range(1000):
        try:
            assert coordinator.handle(backend.next()) == []
        except DistributedError:
            break
    assert coordinator.in_flight == {}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 10**9))
def test_any_schedule_gives_the_sequential_tokens(start):
    for seed in range(start, start + 25):
        run(seed)


def test_without_faults_every_verdict_is_used_or_stale():
    for seed in range(50):
        coordinator = run(seed, faults=Faults(0, 0, 0, 0))
        drafted, tested, accepted = map(sum, zip(*coordinator.rounds, strict=True))
        assert accepted <= tested <= drafted
        assert accepted <= len(coordinator.new)


def test_servers_that_disagree_commit_no_token_that_no_verdict_gave():
    for seed in range(300):
        run(seed, fickle=True)


class IgnoresEpochs(Coordinator):
    def _on_reply(self, reply, actions):
        super()._on_reply(Reply(**{**vars(reply), "epoch": self.epoch}), actions)


class KeepsTheChain(Coordinator):
    def _new_epoch(self, actions):
        chain = list(self.chain[1:])
        super()._new_epoch(actions)
        self.chain += chain


class NoRuleR(Coordinator):
    def _covered(self, position, rows=True):
        return rows


class ForgetsTheDead(Coordinator):
    def _lose(self, server):
        self._busy.pop(server, None)


class TakesRepetitions(Coordinator):
    def _on_drafted(self, drafted, actions):
        end = len(self.tokens) + len(self.chain)
        super()._on_drafted(Drafted(**{**vars(drafted), "position": max(end, drafted.position)}), actions)


def caught(mutant, fickle):
    """Whether some schedule shows it."""
    for seed in range(300):
        try:
            run(seed, mutant, fickle=fickle)
        except (AssertionError, DistributedError, IndexError):
            return True
    return False


@pytest.mark.parametrize(
    ("mutant", "fickle"),
    [
        (IgnoresEpochs, True),
        (KeepsTheChain, False),
        (NoRuleR, False),
        (ForgetsTheDead, False),
        (TakesRepetitions, False),
    ],
)
def test_planted_bugs_are_caught(mutant, fickle):
    assert caught(mutant, fickle)


def test_late_replies_of_a_dead_server_leave_nothing_behind():
    coordinator = Coordinator([1], lambda new: False, 9, Plan(2, 1), holds=True)
    (task,) = (action for action in coordinator.start() if isinstance(action, Task))
    coordinator.handle(ServerLost(0))
    assert coordinator.in_flight == {}
    coordinator.handle(Drafted(0, 1, 3))
    late = coordinator.handle(Reply(task.id, 0, 0, 1, 0, held=True))
    assert not any(isinstance(action, Settle) for action in late)
