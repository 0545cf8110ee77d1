"""Expected rounds of a text: how many target forwards speculative decoding needs for it, in expectation over all its coins.

A lossless sampler writes the target's text, so text and acceptance have a joint law. Given the text, a round that begins at
position i accepts at least l drafts with a probability S(i, l) that the verifier's rule and the laws of both models fix
(eval.expectation.chain_chances and .trees). Where rounds begin follows from that by a forward recursion, exactly: nothing is sampled
but the text itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Followed:
    """What a rule would make of one text of n tokens."""

    survival: Array  # (n, L + 1) S(i, l), S(i, 0) = 1
    goes_on: NDArray[np.bool_]  # (n,) a draft may follow this token within a round
    limit: int  # new tokens there was room for: no round drafts beyond it

    def reach(self) -> NDArray[np.int64]:
        """Drafts that a round beginning at each position can have as long as it follows the text: int64 (n,)."""
        n = len(self.survival)
        stops = np.append(np.flatnonzero(~self.goes_on), n - 1)  # the draft of such a token is a round's last
        first = stops[np.searchsorted(stops, np.arange(n))]
        return first - np.arange(n) + 1


@dataclass(frozen=True)
class Rounds:
    """Expected counts per text, float64 (P,) each; they mean what the counts of `eval.run.records.Record` mean."""

    tokens: Array
    target_forwards: Array
    accepted: Array
    verified: Array
    drafted: Array  # at most: a rejected draft that no other can follow ends its round, too
    by_drafted: Array  # (P, L + 1) forwards over so many drafts


def expected_rounds(texts: Sequence[Followed], longest: int) -> Rounds:
    """Rounds of at most `longest` drafts, for every text. Raises ValueError where a text's S reaches less far."""
    if any(text.survival.shape[1] <= longest for text in texts):
        raise ValueError(f"rounds of {longest} drafts need S(i, l) up to l = {longest}; log longer ones")
    size = np.array([len(text.survival) for text in texts])
    shape = len(texts), int(size.max())
    survival, room, reach = np.zeros((*shape, longest + 2)), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for number, text in enumerate(texts):
        n = size[number]
        room[number, :n] = np.clip(text.limit - np.arange(n) - 1, 0, longest)
        reach[number, :n] = np.minimum(room[number, :n], text.reach())
        within = np.arange(longest + 1) <= reach[number, :n, None]
        survival[number, :n, : longest + 1] = np.where(within, text.survival[:, : longest + 1], 0.0)
    begins = _begins(survival, size)
    weighted = begins[:, :, None] * survival  # (P, n, longest + 2)
    tested = weighted[:, :, :-1] * (np.arange(longest + 1) < reach[:, :, None])
    by_drafted = _by_drafted(begins, weighted, room, reach)
    return Rounds(
        tokens=size.astype(np.float64),
        target_forwards=begins.sum(1),
        accepted=weighted[:, :, 1:].sum((1, 2)),
        verified=tested.sum((1, 2)),
        drafted=by_drafted @ np.arange(longest + 1),
        by_drafted=by_drafted,
    )


def _by_drafted(begins: Array, weighted: Array, room: NDArray[np.int64], reach: NDArray[np.int64]) -> Array:
    """Forwards over 0 .. L drafts: a round that follows the text to where no draft can follow ends there, others fill their room."""
    ended = np.where(reach < room, np.take_along_axis(weighted, reach[:, :, None], 2)[:, :, 0], 0.0)
    lengths = range(weighted.shape[2] - 1)
    return np.stack([((begins - ended) * (room == k) + ended * (reach == k)).sum(1) for k in lengths], 1)


def _begins(survival: Array, size: NDArray[np.int64]) -> Array:
    """Probability that a round begins at each position: (P, n, L + 2) -> (P, n)."""
    texts, width, lengths = survival.shape
    exactly = survival[:, :, :-1] - survival[:, :, 1:]
    begins = np.zeros((texts, width + lengths))
    begins[:, 0] = 1.0
    for place in range(width):
        for accepted in range(lengths - 1):
            begins[:, place + accepted + 1] += begins[:, place] * exactly[:, place, accepted]
    inside = np.arange(width) < size[:, None]
    return begins[:, :width] * inside
