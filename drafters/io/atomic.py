"""Files that are whole or as they were before, whatever kills the process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary sibling of ``path`` to write to; flushed and renamed when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` is either absent (or its old self) or whole, whatever kills the process."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: object, indent: int | None = 2) -> None:
    """Write a value as JSON, whole or not at all. Raises ValueError for a number that JSON has no word for."""
    write_atomic(path, (json.dumps(value, indent=indent, allow_nan=False) + "\n").encode())


def fsync_directory(path: Path) -> None:
    """Make renames inside ``path`` survive a power cut (a file's own fsync does not cover its name)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
