"""Coins that take every branch: the exact output law of the production code, by replaying it, without sampling noise.

A branch is a script: the outcomes of its decisions in the order they are met. Scripts are the rows of one batch. A row
that has used up its script takes the first possible outcome of each further decision, and the outcomes it did not take
become scripts of a later batch. So every branch is run exactly once and nothing about the decoder has to be known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drafters.rng.coins import Key

REJECT, ACCEPT = 0, 1


@dataclass(frozen=True)
class Scripts:
    """N branches: outcomes int64 (N, L), of which the first `length` int64 (N,) count."""

    outcomes: Tensor
    length: Tensor

    @staticmethod
    def root() -> Scripts:
        """The one empty script, from which every branch descends."""
        return Scripts(torch.zeros(1, 0, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))

    def __len__(self) -> int:
        return self.length.shape[0]

    def split(self, rows: int) -> tuple[Scripts, Scripts]:
        """The first `rows` scripts and the rest."""
        return Scripts(self.outcomes[:rows], self.length[:rows]), Scripts(self.outcomes[rows:], self.length[rows:])

    @staticmethod
    def join(parts: Sequence[Scripts]) -> Scripts:
        """All scripts of all parts, in order."""
        width = max((part.outcomes.shape[1] for part in parts), default=0)
        padded = [torch.nn.functional.pad(part.outcomes, (0, width - part.outcomes.shape[1])) for part in parts]
        return Scripts(torch.cat(padded), torch.cat([part.length for part in parts]))


@dataclass
class _Met:
    """One call's decisions: where each row met it (-1: not at all), under which law, and what came out."""

    position: Tensor  # int64 (B,)
    round: Tensor | None  # int64 (B,)
    law: Tensor  # fp64 (B, outcomes)
    outcome: Tensor = field(default_factory=lambda: torch.zeros(0))  # int64 (B,)


class EnumeratingCoins:
    """Coins (see drafters.rng.coins.Coins) whose rows follow scripts; `weight` fp64 (B,) is each row's probability.

    Outcomes without probability are dropped, and a decision with one possible outcome takes nothing from the script.
    Raises RuntimeError if a row meets a key twice, unless that is a declared replay (round None) under the same law,
    which has the outcome it had before: one coin under two laws would tie two decisions together.
    """

    def __init__(self, scripts: Scripts):
        self._scripts = scripts
        self._taken = scripts.outcomes.clone()  # (B, L) grows with the decisions met
        self._cursor = torch.zeros(len(scripts), dtype=torch.int64)
        self._rows = torch.arange(len(scripts))
        self._met: dict[tuple[str, int, int], list[_Met]] = {}
        self._left: list[Scripts] = []
        self.weight = torch.ones(len(scripts), dtype=torch.float64)

    def __len__(self) -> int:
        return self.weight.shape[0]

    @property
    def left(self) -> list[Scripts]:
        """The branches that leave these rows' paths behind the ends of their scripts."""
        return self._left

    def accept(self, p_x: Tensor, q_x: Tensor, key: Key) -> Tensor:
        """See Coins.accept: passes with probability min(1, p(x) / q(x)); q(x) = 0 passes where p(x) > 0."""
        p_x, q_x = p_x.double(), q_x.double()
        chance = torch.where(q_x > p_x, p_x / q_x, (p_x > 0).double())
        if p_x.ndim == 1:
            law = torch.stack([1.0 - chance, chance], -1)
            return (self._decide(law, key) == ACCEPT) & (key.position >= 0)
        alive = torch.ones(len(self._scripts), dtype=torch.bool)
        passed = []
        for column in range(p_x.shape[1]):
            position = key.position if key.position.ndim == 1 else key.position[:, column]
            node = key.node if isinstance(key.node, int) else int(key.node[column])
            alive = alive & (position >= 0)
            law = torch.stack([1.0 - chance[:, column], chance[:, column]], -1)
            alive = alive & (self._decide(law, key.at(position=torch.where(alive, position, -1), node=node)) == ACCEPT)
            passed.append(alive)
        return torch.stack(passed, 1) if passed else p_x.bool()

    def draw(self, law: Tensor, key: Key) -> Tensor:
        """See Coins.draw."""
        law = law.double()
        return self._decide(law / law.sum(-1, keepdim=True), key)

    def race(self, position: Tensor, ids: Tensor | None) -> Tensor:
        """Refused with TypeError: exponentials have no finite set of outcomes."""
        raise TypeError(
            "EnumeratingCoins has no race(): its outcomes are continuous. Prove a coupled sampler pathwise, against race decoding."
        )

    def winners(self, position: Tensor, law: Tensor, count: int = 1) -> Tensor:
        """Refused like `race`."""
        return self.race(position, None)

    def _decide(self, law: Tensor, key: Key) -> Tensor:
        """One decision per row that has a position: fp64 (B, outcomes) -> int64 (B,)."""
        possible = law > 0
        outcome = possible.int().argmax(-1)  # the first possible one
        open_rows = (key.position >= 0) & (possible.sum(-1) > 1)
        met = _Met(key.position, key.round, law)
        replayed, before = self._look_up(met, key)
        open_rows = open_rows & ~replayed

        scripted = open_rows & (self._cursor < self._scripts.length)
        self._reserve(int(self._cursor.max()) + 1)
        outcome = torch.where(scripted, self._taken[self._rows, self._cursor], outcome)
        outcome = torch.where(replayed, before, outcome)
        self._branch(possible, outcome, open_rows & ~scripted)
        chosen = law.gather(-1, outcome.unsqueeze(-1)).squeeze(-1)
        if not bool((chosen > 0)[key.position >= 0].all()):
            raise RuntimeError(
                f"a row has no possible outcome ({key.purpose}, node {key.node}): a law without mass was drawn from, "
                "or the decoder did something else than when the row's script was written."
            )
        self.weight = torch.where(open_rows, self.weight * chosen, self.weight)
        self._taken[self._rows[open_rows], self._cursor[open_rows]] = outcome[open_rows]
        self._cursor = self._cursor + open_rows
        met.outcome = outcome
        return outcome

    def _branch(self, possible: Tensor, outcome: Tensor, rows: Tensor) -> None:
        """Note the outcomes that these rows could have taken instead."""
        others = possible & rows.unsqueeze(-1)
        others[self._rows, outcome] = False
        row, other = others.nonzero(as_tuple=True)
        path = self._taken[row]
        path[torch.arange(row.shape[0]), self._cursor[row]] = other
        self._left.append(Scripts(path, self._cursor[row] + 1))

    def _look_up(self, met: _Met, key: Key) -> tuple[Tensor, Tensor]:
        """bool (B,) rows that met this key before, and the outcome it had; registers the call."""
        if isinstance(key.node, Tensor):
            raise TypeError("key.node must be one int per decision here; only 2-D accept takes many.")
        replayed = torch.zeros_like(self._rows, dtype=torch.bool)
        before = torch.zeros_like(self._rows)
        # Without a round the production coins do not read the node either: the position alone is the name.
        calls = self._met.setdefault((key.purpose, key.node if key.round is not None else 0, key.draw), [])
        for call in calls:
            again = (met.position >= 0) & (call.position == met.position)
            if met.round is not None and call.round is not None:
                again &= call.round == met.round
            if not bool(again.any()):
                continue
            row = int(again.nonzero()[0])
            where = f"{key.purpose} at position {int(met.position[row])}, node {key.node}, draw {key.draw}"
            if met.round is not None or call.round is not None:
                raise RuntimeError(f"coin used twice: {where}.")
            if not torch.equal(call.law[again], met.law[again]):
                raise RuntimeError(
                    f"coin replayed under another law: {where}; the same position must mean the same decision."
                )
            replayed |= again
            before = torch.where(again, call.outcome, before)
        calls.append(met)
        return replayed, before

    def _reserve(self, decisions: int) -> None:
        missing = decisions - self._taken.shape[1]
        if missing > 0:
            self._taken = torch.nn.functional.pad(self._taken, (0, missing + 8))


def branches(rows: int = 4096) -> Iterator[EnumeratingCoins]:
    """Coins of one batch after the other, at most `rows` branches each, until every branch has been run.

    The caller runs the same deterministic code on each batch before asking for the next; then `weight` is final.
    """
    waiting = Scripts.root()
    while len(waiting):
        batch, waiting = waiting.split(rows)
        coins = EnumeratingCoins(batch)
        yield coins
        waiting = Scripts.join([*coins.left, waiting])  # depth first keeps few scripts waiting
