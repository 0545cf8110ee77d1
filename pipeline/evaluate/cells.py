"""The measuring part of stage eval: prices, p and q, then all contenders by prompt, here or on many processes.

Each piece is kept in a file of its own: a rerun after a kill goes on after the last finished one; the stage removes them when the report is
written.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from pydantic import TypeAdapter

from drafters.io.atomic import write_atomic
from eval.acceptance.logged_laws import Laws
from eval.acceptance.optimality_gap import Optimum, Ranks
from eval.costs.forwards import Costs
from eval.report.texts.answer import Answers
from eval.run.configurations import Contender, Drafter
from eval.run.records import Configuration, Record, parse
from eval.run.trials import Harness, Task
from pipeline.cluster import ray_workers
from pipeline.evaluate import setup
from pipeline.evaluate.settings import Evaluation
from pipeline.runner.stage import Workspace, say

PARTS = ".part-*"
T = TypeVar("T")
OPTIMUM: TypeAdapter[Optimum | None] = TypeAdapter(Optimum | None)
RANKS: TypeAdapter[Ranks | None] = TypeAdapter(Ranks | None)
COSTS = TypeAdapter(Costs)
TEXTS: TypeAdapter[Answers | None] = TypeAdapter(Answers | None)


class Cell(NamedTuple):
    """A piece of an evaluation: one prompt under all contenders, in turns, so that ratios are taken on one machine."""

    repeat: int
    task: int  # index


RankLaws = Mapping[tuple[str, float], Sequence[float]]  # by drafter and temperature: shapes of trees hang on them
# (cells, one contender done, whether time is up) -> (index of the cell, its records) as they are measured
Make = Callable[[Sequence[Cell], Callable[[], None], Callable[[], bool]], Iterator[tuple[int, list[Record]]]]


def watched(work: Workspace, laws: Laws, contenders: Sequence[Contender]) -> dict[Configuration, Optimum]:
    """Every contender that logs p and q beside its optimum. A run serves all stop policies and executors of a sampler."""
    found: dict[Configuration, Optimum] = {}
    first: dict[tuple[str | None, str | None, float], Configuration] = {}
    for contender in contenders:
        key = contender.configuration
        first.setdefault((key.drafter, key.preset, key.temperature), key)
    chosen = [contender for contender in contenders if contender.configuration in first.values()]
    with work.progress("Logging laws", len(chosen)) as bar:
        for number, contender in enumerate(chosen):
            part = work.out / f".part-laws-{number:04d}.json"
            known = part.exists()
            if (own := kept(part, OPTIMUM, partial(laws.optimum, contender))) is not None:
                found[contender.configuration] = own
            bar.advance(kept=known)
    by_sampler = {(key.drafter, key.preset, key.temperature): value for key, value in found.items()}
    keys = [contender.configuration for contender in contenders]
    return {key: by_sampler[name] for key in keys if (name := (key.drafter, key.preset, key.temperature)) in by_sampler}


def ranks(out: Path, laws: Laws, drafter: Drafter, temperature: float) -> Ranks | None:
    """The measured rank distribution; shapes of trees hang on it, so a resumed run must use the one it began with."""
    part = out / f".part-ranks-{drafter.name}-{temperature:g}.json"
    found = kept(part, RANKS, lambda: laws.ranks(drafter, temperature))
    if found is not None:
        laws.known[drafter.name, temperature] = found
    return found


def costs(out: Path, measure: Callable[[], Costs]) -> Costs:
    """The costs that the first attempt of this run measured.

    Which trees are timed, and so what the parts of a killed run hold, may hang on them: a later attempt must not measure others.
    """
    return kept(out / ".part-costs.json", COSTS, measure)


def texts(out: Path, record: Callable[[], Answers | None]) -> Answers | None:
    """The answers that the first attempt of this run recorded."""
    return kept(out / ".part-texts.json", TEXTS, record)


def kept(part: Path, kind: TypeAdapter[T], make: Callable[[], T]) -> T:
    """What an earlier attempt left in this file, else what `make` makes, kept for the next."""
    if not part.exists():
        write_atomic(part, kind.dump_json(make()))
    return kind.validate_json(part.read_bytes())


def records(
    work: Workspace, configurations: int, tasks: Sequence[Task], make: Make, repeats: int, minutes: float | None
) -> Iterator[Record]:
    """Records of every repeat and prompt, in that order; a cell whose part file is there is not measured again.

    Past so many minutes no further cell is begun, but two there must be: an interval over one is none.
    """
    limit = math.inf if minutes is None else 60 * minutes
    every = [Cell(repeat, number) for repeat in range(repeats) for number in range(len(tasks))]
    missing = [cell for cell in every if not _part(work.out, cell, tasks).exists()]
    there, begin = len(every) - len(missing), time.monotonic()
    if there:
        said = f"{there} of {len(every)} prompts" if repeats == 1 else f"{there} of {len(every)} repeats of prompts"
        say(work.console, f"{said} were there already")

    def late() -> bool:
        return there >= min(2, len(tasks)) and time.monotonic() - begin > limit

    with work.progress("Evaluating", len(every) * configurations, "runs", limit) as bar:
        bar.advance(there * configurations, kept=True)
        for index, found in make(missing, bar.advance, late):
            lines = "".join(f"{item.to_json()}\n" for item in found)
            write_atomic(_part(work.out, missing[index], tasks), lines.encode())
            there += 1
    for cell in every:
        if (part := _part(work.out, cell, tasks)).exists():
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


def on_ray(
    asked: Evaluation,
    crew: ray_workers.Crew,
    package: Path,
    rank_laws: RankLaws,
    tasks: Sequence[Task],
    contenders: Sequence[Contender],
) -> Make:
    """Cells of these prompts and contenders from a queue of processes that each hold target and drafters.

    Speed is compared on one device at one time, whichever it is. Records add up, so that their order says nothing, and all but their
    seconds are the same for any number of processes. Raises DistributedError without Ray.
    """
    kept = [item.configuration for item in contenders]

    def make(
        cells: Sequence[Cell], advance: Callable[[], None], late: Callable[[], bool]
    ) -> Iterator[tuple[int, list[Record]]]:
        arguments = asked, package.resolve(), dict(rank_laws), crew.threads, kept
        pieces = [(cell.repeat, tasks[cell.task].number) for cell in cells]
        for index, lines in ray_workers.results(crew, Evaluator, arguments, pieces):
            for _ in lines:
                advance()
            yield index, [parse(line) for line in lines]
            if late():
                return

    return make


class Evaluator:
    """Target, drafters and contenders in a process of its own."""

    def __init__(
        self,
        asked: Evaluation,
        package: Path,
        rank_laws: RankLaws,
        threads: int | None,
        chosen: Collection[Configuration],
    ):
        if threads is not None:
            torch.set_num_threads(threads)
        bench = setup.opened(asked, package)

        def rank_law(drafter: Drafter, temperature: float) -> Sequence[float] | None:
            return rank_laws.get((drafter.name, temperature))

        self._tasks, self._warm = bench.tasks, False
        self._harness = bench.harness([item for item in bench.contenders(rank_law) if item.configuration in chosen])

    def do(self, cell: tuple[int, int]) -> list[str]:
        """Records as JSON of a repeat and the number of a prompt in the suite's sample."""
        repeat, number = cell
        task = self._tasks[number]
        if not self._warm:
            self._harness.warm_up(task)
            self._warm = True
        return [record.to_json() for record in self._harness.trial(task, repeat)]


def _part(out: Path, cell: Cell, tasks: Sequence[Task]) -> Path:
    return out / f".part-{cell.repeat:03d}-{tasks[cell.task].number:06d}.jsonl"


def sweep(out: Path) -> None:
    """Remove the files of finished cells, once their records are in one file."""
    for part in out.glob(PARTS):
        part.unlink()
