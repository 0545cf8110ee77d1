"""The measuring part of stage eval: laws first, then all contenders prompt by prompt, each piece kept in a file of its own.

A rerun after a kill goes on after the last finished piece; the stage removes the pieces when the report is written.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from eval.contenders import Contender, Drafter
from eval.harness import Harness, Task
from eval.laws import Laws
from eval.optimum import Optimum, Ranks
from eval.records import Configuration, Record, parse
from pipeline.stage import Context, write_atomic

PARTS = ".part-*"


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
            if not part.exists():
                made = laws.optimum(contender)
                write_atomic(part, json.dumps(None if made is None else asdict(made)).encode())
            if (fields := json.loads(part.read_text(encoding="utf-8"))) is not None:
                found[contender.configuration] = Optimum(**fields)
            bar.advance()
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


def records(context: Context, harness: Harness, tasks: Sequence[Task]) -> Iterator[Record]:
    """Records of every repeat and prompt, in that order; a prompt whose part file is there is not measured again.

    Past eval.minutes no further prompt is begun, but two there must be: an interval over one is none.
    """
    repeats, configurations = context.cfg.eval.repeats, len(harness.contenders)
    limit = math.inf if context.cfg.eval.minutes is None else 60 * context.cfg.eval.minutes
    warm, begin = False, time.monotonic()
    with context.progress("Evaluating", repeats * len(tasks) * configurations) as bar:
        for repeat in range(repeats):
            for task in tasks:
                part = context.out / f".part-{repeat:03d}-{task.number:06d}.jsonl"
                late = time.monotonic() - begin > limit and (repeat > 0 or task.number > 1)
                if late and not part.exists():
                    return
                if part.exists():
                    bar.advance(configurations)
                else:
                    if not warm:
                        harness.warm_up(task)
                        warm = True
                    found = harness.trial(task, repeat, bar.advance)
                    write_atomic(part, "".join(f"{item.to_json()}\n" for item in found).encode())
                yield from map(parse, part.read_text(encoding="utf-8").splitlines())


def sweep(out: Path) -> None:
    """Remove the pieces."""
    for part in out.glob(PARTS):
        part.unlink()
