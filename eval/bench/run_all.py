"""Runs every benchmark in a process of its own: runs/bench/<name>.json each, and an error at the end for every one that failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from eval.bench.catalog import BENCHES
from eval.bench.output import FOLDER, BenchError
from eval.command_line import nearest
from eval.run.progress import Lines, ticking


@dataclass
class BenchOptions:
    """The options of a run of several benchmarks."""

    only: list[str] = field(default_factory=list)  # names of benchmarks; none: all
    threads: int = 1  # of each


def chosen(only: Sequence[str]) -> list[str]:
    """The names asked for, in the order of BENCHES. Raises BenchError for one that does not exist."""
    if unknown := [name for name in only if name not in BENCHES]:
        raise BenchError(
            f"only={','.join(only)}: no benchmark {unknown[0]!r}, expected some of {', '.join(BENCHES)}{nearest(unknown[0], BENCHES)}"
        )
    return [name for name in BENCHES if name in (only or BENCHES)]


def run(name: str, threads: int, folder: Path) -> str | None:
    """Run one; None where it succeeded and wrote its file, else what is wrong."""
    path = folder / f"{name}.json"
    before = path.stat().st_mtime_ns if path.exists() else None
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    code = subprocess.run([sys.executable, "-m", "eval", "bench", name], env=environment, check=False).returncode
    if code:
        return f"ended with code {code}"
    if not path.exists() or path.stat().st_mtime_ns == before:
        return f"wrote no {path}"
    json.loads(path.read_text())
    return None


def main(options: BenchOptions) -> int:
    """Run what was asked for, one after the other; 1 if any failed."""
    names = chosen(options.only)
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
        print(f"error: {name}: {problem}; alone: python -m eval bench {name}")
    print(f"{len(names) - len(problems)} of {len(names)} benchmarks in {FOLDER}/")
    return 1 if problems else 0
