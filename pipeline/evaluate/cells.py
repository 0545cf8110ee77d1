"""The measuring part of stage eval: laws first, then all contenders prompt by prompt, each piece kept in a file of its own.

A rerun after a kill goes on after the last finished piece; the stage removes the pieces when the report is written.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from eval.acceptance.logged_laws import Laws
from eval.acceptance.optimality_gap import Optimum, Ranks
from eval.run.configurations import Contender, Drafter
from eval.run.records import Configuration, Record, parse
from eval.run.trials import Harness, Task
from pipeline.runner.stage import Context, write_atomic

PARTS = ".part-*"


class Cell(NamedTuple):
    """A piece of an evaluation: one prompt under all contenders, in turns, so that ratios are taken on one machine."""

    repeat: int
    task: int  # index


# (cells, one contender done, whether time is up) -> (index of the cell, its records) as they are measured
Make = Callable[[Sequence[Cell], Callable[[], None], Callable[[], bool]], Iterator[tuple[int, list[Record]]]]


def watched(context: Context, laws: Laws, contenders: Sequence[Contender]) -> dict[Configuration, Optimum]:
    """Every contender that logs laws beside its optimum. One run serves all stop policies and executors of a sampler."""
    found: dict[Configuration, Optimum] = {}
    first: dict[tuple[str | None, str | None, float], Configuration] = {}
    for contender in contenders:
        key = contender.configuration
        first.setdefault((key.drafter, key.preset, key.temperature), key)
    chosen = [contender for contender in contenders if contender.configuration in first.values()]
    with context.progress("Logging laws", len(chosen)) as bar:
        for number, contender in enumerate(chosen):
            part = context.out / f".part-laws-{number:04d}.json"
            kept = part.exists()
            if not kept:
                made = laws.optimum(contender)
                write_atomic(part, json.dumps(None if made is None else asdict(made)).encode())
            if (fields := json.loads(part.read_text(encoding="utf-8"))) is not None:
                found[contender.configuration] = Optimum(**fields)
            bar.advance(kept=kept)
    by_sampler = {(key.drafter, key.preset, key.temperature): value for key, value in found.items()}
    keys = [contender.configuration for contender in contenders]
    return {key: by_sampler[name] for key in keys if (name := (key.drafter, key.preset, key.temperature)) in by_sampler}


def ranks(context: Context, laws: Laws, drafter: Drafter, temperature: float) -> Ranks | None:
    """The measured rank law; shapes of trees hang on it, so a resumed run must use the one it began with."""
    part = context.out / f".part-ranks-{drafter.name}-{temperature:g}.json"
    if not part.exists():
        made = laws.ranks(drafter, temperature)
        write_atomic(part, json.dumps(None if made is None else asdict(made)).encode())
    fields = json.loads(part.read_text(encoding="utf-8"))
    if fields is None:
        return None
    laws.known[drafter.name, temperature] = Ranks(**fields)
    return laws.known[drafter.name, temperature]


def records(context: Context, configurations: int, tasks: Sequence[Task], make: Make) -> Iterator[Record]:
    """Records of every repeat and prompt, in that order; a cell whose part file is there is not measured again.

    Past eval.minutes no further cell is begun, but two there must be: an interval over one is none.
    """
    repeats = context.cfg.eval.repeats
    limit = math.inf if context.cfg.eval.minutes is None else 60 * context.cfg.eval.minutes
    every = [Cell(repeat, number) for repeat in range(repeats) for number in range(len(tasks))]
    missing = [cell for cell in every if not _part(context, cell, tasks).exists()]
    kept, begin = len(every) - len(missing), time.monotonic()

    def late() -> bool:
        return kept >= min(2, len(tasks)) and time.monotonic() - begin > limit

    with context.progress("Evaluating", len(every) * configurations, "runs") as bar:
        bar.advance(kept * configurations, kept=True)
        for index, found in make(missing, bar.advance, late):
            lines = "".join(f"{item.to_json()}\n" for item in found)
            write_atomic(_part(context, missing[index], tasks), lines.encode())
            kept += 1
    for cell in every:
        if (part := _part(context, cell, tasks)).exists():
            yield from map(parse, part.read_text(encoding="utf-8").splitlines())


def here(harness: Harness, tasks: Sequence[Task]) -> Make:
    """Cells measured in this process, one after the other."""

    def make(
        cells: Sequence[Cell], advance: Callable[[], None], late: Callable[[], bool]
    ) -> Iterator[tuple[int, list[Record]]]:
        for index, cell in enumerate(cells):
            if late():
                return
            if index == 0:
                harness.warm_up(tasks[cell.task])
            yield index, harness.trial(tasks[cell.task], cell.repeat, advance)

    return make


def _part(context: Context, cell: Cell, tasks: Sequence[Task]) -> Path:
    return context.out / f".part-{cell.repeat:03d}-{tasks[cell.task].number:06d}.jsonl"


def sweep(out: Path) -> None:
    """Remove the pieces."""
    for part in out.glob(PARTS):
        part.unlink()
