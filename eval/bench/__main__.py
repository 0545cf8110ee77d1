"""All benchmarks, each in a process of its own: runs/bench/<name>.json per benchmark, and an error at the end for every one that failed.

python -m eval.bench [only=engine,verify] [threads=1]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from eval.bench.output import FOLDER, BenchError, parse
from eval.run.progress import Lines, ticking

# Name -> module and its arguments; {path} is where it writes.
BENCHES: Mapping[str, Sequence[str]] = {
    "counting": ("eval.bench.counting_run",),
    "steps": ("eval.bench.steps",),
    "redistribution": ("eval.bench.redistribution", "{path}"),
    "verify": ("eval.bench.verifiers", "{path}"),
    "stop": ("eval.bench.stop_policies", "{path}"),
    "bounds": ("eval.bench.bounds", "{path}"),
    "batch": ("eval.bench.batch",),
    "costs": ("eval.bench.cost_model",),
    "engine": ("eval.bench.engine",),
}


@dataclass
class Options:
    """What to run."""

    only: str = ""  # names, separated by commas; none: all
    threads: int = 1


def chosen(only: str) -> list[str]:
    """The names asked for, in the order of BENCHES. Raises BenchError for one that does not exist."""
    wanted = [name for name in only.split(",") if name] or list(BENCHES)
    if unknown := [name for name in wanted if name not in BENCHES]:
        raise BenchError(f"only={only}: no benchmark {unknown[0]!r}; expected some of {', '.join(BENCHES)}")
    return [name for name in BENCHES if name in wanted]


def run(name: str, threads: int, folder: Path) -> str | None:
    """Run one; None where it succeeded and wrote its file, else what is wrong."""
    path = folder / f"{name}.json"
    before = path.stat().st_mtime_ns if path.exists() else None
    module, *arguments = BENCHES[name]
    command = [sys.executable, "-m", module, *(word.format(path=path) for word in arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    code = subprocess.run(command, env=environment, check=False).returncode
    if code:
        return f"ended with code {code}"
    if not path.exists() or path.stat().st_mtime_ns == before:
        return f"wrote no {path}"
    json.loads(path.read_text())
    return None


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for, one after the other; 1 if any failed, 2 for an option that does not exist."""
    try:
        options = parse(Options, arguments)
        names = chosen(options.only)
    except BenchError as error:
        print(f"error: {error}")
        return 2
    problems: dict[str, str] = {}
    for name in names:
        print(f"--- {name}", flush=True)
        begin = time.monotonic()
        with ticking(Lines(f"    {name}", None, partial(print, flush=True), last=False)):
            problem = run(name, options.threads, FOLDER)
        if problem:
            problems[name] = problem
        print(f"    {time.monotonic() - begin:.0f} s", flush=True)
    for name, problem in problems.items():
        print(f"error: {name}: {problem}; alone: python -m {BENCHES[name][0]}")
    print(f"{len(names) - len(problems)} of {len(names)} benchmarks in {FOLDER}/")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
