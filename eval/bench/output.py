"""What every benchmark says of itself, and where it is written: runs/bench/<name>.json, whole or not at all."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from drafters.errors import DraftersError
from drafters.io.atomic import write_json

FOLDER = Path("runs/bench")
Figures = dict[str, Any]  # JSON-ready: what a benchmark found, by name


class BenchError(DraftersError):
    """A benchmark that does not exist, or one that cannot be run as asked."""


def device_here() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def environment() -> Figures:
    """Machine, threads, versions, load and the largest memory of this process so far."""
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers")},
        },
    }


def finish(name: str, result: Figures, lines: Iterable[str], passed: bool = True) -> int:
    """Write what was found, print it, and return the exit status: 1 where a limit was exceeded."""
    path = FOLDER / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result)
    print("\n".join([*lines, f"written: {path}"]))
    return 0 if passed else 1
