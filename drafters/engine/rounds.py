"""What a round of decoding brought, token by token: who wrote each one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor


class Writer(StrEnum):
    """Who wrote a token: all but an accepted draft are the target's own."""

    ACCEPTED = "accepted"  # a draft that the target's verification let pass
    CORRECTION = "correction"  # what the target said where a draft was tested and refused
    BONUS = "bonus"  # what the target said behind drafts that were all accepted
    PLAIN = "plain"  # a round without drafts


@dataclass(frozen=True)
class Round:
    """One target forward: what it added to a request, and by whom."""

    tokens: Tensor  # int64 (n,), n >= 1, as they were committed
    who: tuple[Writer, ...]  # of each token
    drafted: int  # drafts in this round; of a tree: its nodes
    verified: int  # of them tested: accepted ones and the first rejected one
    accepted: int
    seconds: float  # drafting, the target's forward and verification; what is done between rounds is not in it

    @staticmethod
    def of(tokens: list[int], counts: tuple[int, int, int], seconds: float) -> Round:
        """The round that committed these tokens, from its entry in `Decoded.rounds`."""
        return Round(torch.tensor(tokens, dtype=torch.int64), writers(len(tokens), counts), *counts, seconds)


def writers(tokens: int, counts: tuple[int, int, int]) -> tuple[Writer, ...]:
    """Who wrote each of a round's tokens, n of them, from its (drafted, verified, accepted) in `Decoded.rounds`.

    A round commits its accepted drafts and, unless the request ends with one of them, a token of the target's own.
    """
    drafted, verified, accepted = counts
    own = Writer.PLAIN if not drafted else Writer.CORRECTION if verified > accepted else Writer.BONUS
    return (Writer.ACCEPTED,) * accepted + (own,) * (tokens - accepted)
