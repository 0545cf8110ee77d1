"""The one owner of what is committed: a pure state machine, without I/O, clock or model.

Distributed speculative inference (Timor et al. 2024, arXiv 2405.14105): the drafter never waits for a verification, and
verifications run side by side on several target servers. Every event may come late, twice, out of order or not at all; what
is committed depends on the models and the coins alone. Epochs number the drafter's chains: a rejection begins a new one, and
answers of older epochs are not looked at.

Rule R keeps it never slower than plain decoding: whenever nothing in flight decides the first open position, a verification
with all drafts at hand is sent at once. The same rule recovers from lost messages and servers: work that is no longer
in flight is sent again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from drafters.distributed.messages import (
    Action,
    Allow,
    Cancel,
    Drafted,
    DrafterLost,
    DraftOrder,
    Event,
    Lost,
    Reply,
    ServerJoined,
    ServerLost,
    Settle,
    Task,
)
from drafters.distributed.plan import Plan

Ends = Callable[[list[int]], bool]  # new tokens -> whether the last one ends the request


class Coordinator:
    """The state of one request: `start` returns the first actions, `handle` those that an event causes.

    Args:
        prompt: ids, at least one.
        ends: asked after every committed token.
        limit: position that no token may reach: prompt and new tokens together.
        plan: lookahead and servers.
        holds: verdicts end with a row that waits for a draft (Reply.held) and not with a token of the target's own.
        servers: numbers of the servers that are up, None for those of the plan; more may join.
        epoch: the first one, above all epochs of earlier requests on the same servers.
        ids: numbers for its work, none of them used by an earlier request on the same servers.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        ends: Ends,
        limit: int,
        plan: Plan,
        holds: bool = False,
        servers: Iterable[int] | None = None,
        epoch: int = 0,
        ids: Iterator[int] | None = None,
    ):
        self.tokens, self.prompt = list(prompt), len(prompt)
        self.plan, self.limit, self._ends = plan, limit, ends
        # Where the target's own token ends the request, a draft would never be used.
        self._last = limit if holds else limit - 1
        self.finished = False
        self.epoch = epoch
        self.chain: list[Drafted] = []  # drafts behind the committed tokens
        self.in_flight: dict[int, Task | Settle] = {}
        self.rounds: list[tuple[int, int, int]] = []  # per task, in order: (drafts first sent in it, tested, accepted)
        up = range(plan.servers) if servers is None else servers
        self._busy: dict[int, int | None] = dict.fromkeys(up)  # server -> the task it works on
        self._ids = itertools.count(1) if ids is None else ids
        self._round: dict[int, int] = {}  # task or settlement -> index into rounds
        self._sent = len(self.tokens)  # end of the longest task of this epoch
        self._waiting = False  # a block is complete and no server was idle
        self._held: Reply | None = None  # a row at the first open position, waiting for a draft
        self._blank: Drafted | None = None  # the drafter's word that it cannot draft where the chain ends
        self._until = 0

    @property
    def new(self) -> list[int]:
        """Committed tokens behind the prompt."""
        return self.tokens[self.prompt :]

    @property
    def servers(self) -> list[int]:
        """The numbers of the servers that are up."""
        return list(self._busy)

    def start(self) -> list[Action]:
        """Start the drafter and the verification of the first position; returns the actions."""
        actions: list[Action] = [self._draft()]
        self._go_on(actions)
        return actions

    def handle(self, event: Event) -> list[Action]:
        """Take an event; returns what is to be done because of it, in order. After the end: nothing."""
        actions: list[Action] = []
        self._account(event)
        if self.finished:
            return actions
        if isinstance(event, Drafted):
            self._on_drafted(event, actions)
        elif isinstance(event, Reply):
            self._on_reply(event, actions)
        elif isinstance(event, DrafterLost):
            actions.append(self._draft())
        self._go_on(actions)
        return actions

    # --- events ---

    def _account(self, event: Event) -> None:
        """Update which servers are up and what is in flight."""
        match event:
            case Reply(id=id, server=server):
                self._free(server, id)
            case Lost(id=id) if id in self.in_flight:
                self._free(self.in_flight[id].server, id)
            case ServerLost(server=server):
                self._lose(server)
            case ServerJoined(server=server):
                self._lose(server)  # what it did in a former life is gone
                self._busy[server] = None

    def _on_drafted(self, drafted: Drafted, actions: list[Action]) -> None:
        end = len(self.tokens) + len(self.chain)
        if drafted.epoch != self.epoch or drafted.position < end or drafted.position >= self._last:
            return  # of an older chain, or a repetition
        if drafted.position > end:  # one got lost: draft from there again
            actions.append(self._draft())
        elif drafted.token is None:
            self._blank = drafted
        else:
            self.chain.append(drafted)
            full = end + 1 - self._sent >= self.plan.lookahead
            if full or drafted.boundary or drafted.closed or end + 1 == self._last:
                self._waiting = True

    def _on_reply(self, reply: Reply, actions: list[Action]) -> None:
        if reply.epoch != self.epoch or reply.dropped:
            return
        # A reply may come twice, or after it was given up: verdicts are functions of context and coins, so that this one says
        # what was or would be found anyway. Servers whose last bits differ may still disagree: the first committed verdict wins.
        end, before, sent = reply.base + reply.accepted, len(self.tokens), self._sent
        while len(self.tokens) < end and not self.finished:
            self._commit(self._pop())
        accepted = tested = len(self.tokens) - before
        if len(self.tokens) == end and not self.finished:
            if reply.token is not None:
                known = self.chain[0].token if self.chain else None
                tested += known is not None
                accepted += known == reply.token
                self._correct(reply.token, known == reply.token, actions)
            elif reply.held and reply.server in self._busy and not self._covered(end, rows=False):
                self._held = reply
        if (index := self._round.get(reply.id)) is not None:
            unsent = max(0, before + tested - sent)  # drafts that came after the task and met its last row
            self._sent = max(self._sent, before + tested)
            drafts, old_tested, old_accepted = self.rounds[index]
            self.rounds[index] = (drafts + unsent, old_tested + tested, old_accepted + accepted)
        if self.finished:
            actions.append(Cancel(self.epoch + 1))

    def _correct(self, token: int, as_drafted: bool, actions: list[Action]) -> None:
        """Commit the target's own token; the chain stands only if it says the same."""
        self._commit(token)
        if as_drafted:
            self.chain.pop(0)
        elif not self.finished:
            self._new_epoch(actions)

    # --- what follows from the state ---

    @property
    def _closed(self) -> bool:
        """Nothing can be drafted behind the chain."""
        return self._blank is not None or (bool(self.chain) and self.chain[-1].closed)

    def _go_on(self, actions: list[Action]) -> None:
        if self.finished:
            return
        position = len(self.tokens)
        if self._held is not None and self._held.base + self._held.accepted != position:
            self._held = None  # overtaken
        draft = self.chain[0] if self.chain else self._blank
        if self._held is not None and draft is not None:
            self._settle(self._held, draft, actions)
        uncovered = self.plan.resubmit and not self._covered(position)
        if self._waiting or uncovered:
            self._submit(actions)
        until = min(position + self.plan.ahead, self._last)
        if until > self._until and not self._closed:
            self._until = until
            actions.append(Allow(self.epoch, until))

    def _covered(self, position: int, rows: bool = True) -> bool:
        """Whether this position is being settled, or (`rows`) its row is being made or waits for the drafter."""
        if rows and self._held is not None:
            return True
        return any(
            work.position == position if isinstance(work, Settle) else rows and work.upto >= position
            for work in self.in_flight.values()
            if work.epoch == self.epoch
        )

    def _submit(self, actions: list[Action]) -> None:
        """Send one task with everything at hand: it makes all shorter ones useless, so a flag serves as the queue."""
        server = next((number for number, work in self._busy.items() if work is None), None)
        if server is None:
            self._waiting = True
            return
        self._waiting = False
        task = Task(next(self._ids), server, self.epoch, tuple(self.tokens), tuple(self.chain))
        self.in_flight[task.id], self._busy[server] = task, task.id
        self._round[task.id] = len(self.rounds)
        self.rounds.append((max(0, task.upto - self._sent), 0, 0))
        self._sent = max(self._sent, task.upto)
        actions.append(task)

    def _settle(self, held: Reply, draft: Drafted, actions: list[Action]) -> None:
        self._held = None
        work = Settle(next(self._ids), held.server, self.epoch, held.id, held.base + held.accepted, draft)
        self.in_flight[work.id] = work
        self._round[work.id] = self._round[held.id]
        actions.append(work)

    def _new_epoch(self, actions: list[Action]) -> None:
        self.epoch += 1
        self.chain.clear()
        self._held = self._blank = None
        self._sent = len(self.tokens)
        self._waiting = True  # the position behind the correction is verified before anything is drafted
        actions += [Cancel(self.epoch), self._draft()]

    def _draft(self) -> DraftOrder:
        self._until = 0 if self._closed else min(len(self.tokens) + self.plan.ahead, self._last)
        known = [draft.token for draft in self.chain if draft.token is not None]
        return DraftOrder(self.epoch, (*self.tokens, *known), self._until)

    # --- book-keeping ---

    def _commit(self, token: int) -> None:
        self.tokens.append(token)
        self.finished = self._ends(self.new) or len(self.tokens) >= self.limit

    def _pop(self) -> int:
        token = self.chain.pop(0).token
        assert token is not None
        return token

    def _free(self, server: int, id: int) -> None:
        self.in_flight.pop(id, None)
        if self._busy.get(server) == id:
            self._busy[server] = None

    def _lose(self, server: int) -> None:
        self._busy.pop(server, None)
        for id, work in list(self.in_flight.items()):
            if work.server == server:
                del self.in_flight[id]
        if self._held is not None and self._held.server == server:
            self._held = None
