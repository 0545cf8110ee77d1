"""Every mutant against every kind of test that can see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from eval.lossless.mutants import blocks, chains, engine, trees
from eval.lossless.mutants.subject import KINDS, Mutant, Subject, rejects

MUTANTS: list[Mutant] = [*chains.MUTANTS, *blocks.MUTANTS, *engine.MUTANTS, *trees.MUTANTS]


@dataclass(frozen=True)
class Finding:
    """One mutant under one kind of test."""

    mutant: int  # index into MUTANTS
    kind: str
    clean_rejected: bool  # the test finds something wrong with code that is right: it is of no use
    killed: bool

    @property
    def passed(self) -> bool:
        """The bug is found, and only the bug."""
        return self.killed and not self.clean_rejected


def examine(number: int, kind: str) -> Finding:
    """Run one kind of test on the right code and on the bug. Raises ValueError for a kind that the mutant does not name."""
    mutant = MUTANTS[number]
    if kind not in mutant.kinds:
        raise ValueError(f"mutant {mutant.title!r} has kinds {mutant.kinds}, got {kind!r}; known: {KINDS}.")
    clean = _clean_rejected(mutant.subject, kind)
    with mutant.plant(mutant.subject()) as bug:
        killed = rejects(kind, bug)
    return Finding(number, kind, clean, killed)


@cache
def _clean_rejected(subject: Callable[[], Subject], kind: str) -> bool:
    """Many mutants share a subject: the right code is tested once per process."""
    return rejects(kind, subject())


def combinations() -> list[tuple[int, str]]:
    """(mutant, kind) of the whole matrix. Raises ValueError where a mutant has no kind of test at all."""
    for mutant in MUTANTS:
        if not mutant.kinds:
            raise ValueError(f"mutant {mutant.title!r} is killed by nothing; give it a kind of test.")
    return [(number, kind) for number, mutant in enumerate(MUTANTS) for kind in mutant.kinds]
