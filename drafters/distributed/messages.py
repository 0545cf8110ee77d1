"""Messages between coordinator, drafter and target servers: ids, counts and, where a verifier needs it, q.

Never logits and never caches: a server's answer is a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Drafted:
    """The drafter's next token. A lost one is drafted again; the same context and coins give the same token."""

    epoch: int
    position: int  # absolute, prompt included
    # -1: a miss (drawn, but no target token); None: the drafter's context is full, so that it cannot draft here
    token: int | None
    law: Any = None  # what the token was drawn from, for verifiers that need it; opaque to the coordinator
    boundary: bool = False  # end the block here: verify what there is
    closed: bool = False  # nothing can be drafted behind this token: an end of text, or a miss


@dataclass(frozen=True)
class Task:
    """Verify `drafts` behind `prefix`: one forward, whose rows are the distributions at positions base .. upto."""

    id: int
    server: int
    epoch: int
    prefix: tuple[int, ...]  # committed ids, prompt included
    drafts: tuple[Drafted, ...]

    @property
    def base(self) -> int:
        """The position of the first row."""
        return len(self.prefix)

    @property
    def upto(self) -> int:
        """The position of the last row, behind the last draft."""
        return len(self.prefix) + len(self.drafts)


@dataclass(frozen=True)
class Settle:
    """Decide a position whose row the server kept (Reply.held), now that there is a draft for it. No forward."""

    id: int
    server: int
    epoch: int
    row: int  # the Task that made the row
    position: int
    draft: Drafted  # token None: there is none, draw from the row


@dataclass(frozen=True)
class Reply:
    """A verdict on a Task or a Settle: the drafts at base .. base + accepted - 1 are the target's own."""

    id: int
    server: int
    epoch: int
    base: int
    accepted: int
    token: int | None = None  # the target's token at base + accepted, where the verdict gives it
    held: bool = False  # the row at base + accepted waits at the server for the draft of that position
    dropped: bool = False  # no verdict: the server left the work because its epoch is over


@dataclass(frozen=True)
class Lost:
    """A message that will not come: the work `id` must be done again."""

    id: int


@dataclass(frozen=True)
class ServerLost:
    """A target server died, with all it was doing."""

    server: int


@dataclass(frozen=True)
class ServerJoined:
    """A target server, new or come back, is idle."""

    server: int


@dataclass(frozen=True)
class DrafterLost:
    """The drafter died or went silent: it is told again where to draft."""


@dataclass(frozen=True)
class DraftOrder:
    """Orders the drafter to drop its present chain and draft after `prefix`, at positions below `until`."""

    epoch: int
    prefix: tuple[int, ...]
    until: int


@dataclass(frozen=True)
class Allow:
    """Allows the drafter to draft on in this epoch, at positions below `until`."""

    epoch: int
    until: int


@dataclass(frozen=True)
class Cancel:
    """Tells servers and drafter that all epochs below this one are over, so that they abandon work for them."""

    epoch: int


Event = Drafted | Reply | Lost | ServerLost | ServerJoined | DrafterLost
Action = Task | Settle | DraftOrder | Allow | Cancel
