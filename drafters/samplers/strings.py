"""The contract of string-level proposals: they draft in the drafter's own tokens and hand over target tokens as text."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from drafters.coins import Coins, Key
from drafters.samplers.draft import Draft


class Session(Protocol):
    """One round as a string-level proposal sees it: B rows of text, and a drafter to continue them with."""

    @property
    def key(self) -> Key:
        """Of the round: position int64 (B,) is the committed length, -1 for rows that are finished."""
        ...

    @property
    def room(self) -> list[int]:
        """How many target tokens each row may draft."""
        ...

    @property
    def eos(self) -> tuple[int, ...]:
        """Target ids that end a text."""
        ...

    def committed(self, row: int) -> list[int]:
        """Target ids of the row so far, prompt included."""
        ...

    def wants(self, drafted: Tensor) -> Tensor:
        """The stop policy's word before a draw: int64 (B,) drawn so far this round -> bool (B,)."""
        ...

    def law(self) -> Tensor:
        """The drafter's law, warped, of what follows all that each row has been fed: (B, D)."""
        ...

    def feed(self, ids: Tensor) -> None:
        """Continue the rows by these drafter ids, int64 (B,); -1 leaves a row as it is (its next law means nothing)."""
        ...


@runtime_checkable
class StringProposal(Protocol):
    """Drafts from text to text; the target's tokens alone are verified (Timor et al. 2025)."""

    def propose(self, session: Session, coins: Coins) -> Draft:
        """Draft a chain of at most `session.room` target tokens per row."""
        ...

    def stream(self, drafted: list[int], tokens: list[int]) -> list[int]:
        """Drafter ids of the committed target tokens, opening with as many of the drafter's own drafted ids as still fit."""
        ...
