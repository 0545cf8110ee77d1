"""What every benchmark says of itself, and where it is written: runs/bench/<name>.json, whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import resource
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from drafters.errors import DraftersError

FOLDER = Path("runs/bench")


class BenchError(DraftersError):
    """A benchmark or an option of one that does not exist."""


def environment() -> dict[str, Any]:
    """Machine, threads, versions, load and the largest memory of this process so far."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers")},
        },
    }


def write(name: str, result: Mapping[str, Any], folder: Path | None = None) -> Path:
    """Write a result; returns the file. Raises ValueError for a number that JSON has no word for."""
    path = (folder or FOLDER) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    part.replace(path)
    return path


def parse(kind: type, arguments: Sequence[str]) -> Any:
    """Options from key=value words, each value JSON. Raises BenchError for an unknown key or a value of another type."""
    known = {item.name: item for item in dataclasses.fields(kind)}
    values = {}
    for word in arguments:
        key, _, text = word.partition("=")
        if key not in known:
            raise BenchError(f"{word}: no such option; expected one of {', '.join(f'{name}=...' for name in known)}")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        usual = getattr(kind(), key)
        if not isinstance(value, type(usual)) and not (isinstance(usual, float) and isinstance(value, int)):
            raise BenchError(f"{word}: expected a {type(usual).__name__}, e.g. {key}={json.dumps(usual)}")
        values[key] = value
    return kind(**values)


def main_of(
    name: str,
    kind: type,
    measure: Callable[[Any], Mapping[str, Any]],
    lines: Callable[[Mapping[str, Any]], Sequence[str]],
    arguments: Sequence[str],
) -> int:
    """Measure, write, print; the exit code."""
    try:
        result = measure(parse(kind, arguments))
    except DraftersError as error:  # an unknown option, no package to measure: for the user to put right
        print(f"error: {error}")
        return 2
    path = write(name, result)
    print("\n".join(lines(result)))
    print(f"written: {path}")
    return 0
