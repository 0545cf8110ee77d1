"""Checks JSON that others wrote against the fields that are read of it, so that an error names file and field."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drafters.errors import DraftersError

MOST_BYTES = 64 << 20  # of a file that is read: a report of thousands of rows is 10 MB
# str, bool, int, float; {field: shape}; [shape] for a list; Maybe(shape); Each(shape); ANYTHING
Shape = Any


class ReportError(DraftersError):
    """A file that cannot be shown or compared; the message names file and field, and the command that makes it."""


class Maybe:
    """A field that may be null or absent."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape


class _Anything:
    """A field whose value nobody reads but as text."""


ANYTHING = _Anything()


class Each:
    """An object of any keys whose values all have this shape."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape


def read(path: Path, shape: Mapping[str, Shape], command: str) -> dict[str, Any]:
    """The JSON object in `path`, which has these fields and may have others.

    Args:
        command: what makes such a file, for messages.

    Raises:
        ReportError: no such file, too large, no JSON object, or a field that is missing or of another kind.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ReportError(
                f"{path}: expected at most {MOST_BYTES:,} bytes, got {size:,}; make it again with: {command}"
            )
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ReportError):
            raise
        raise ReportError(f"{path}: cannot be read as JSON ({error}); make it again with: {command}") from error
    check(found, shape, str(path), command)
    return found


def check(value: Any, shape: Shape, where: str, command: str) -> None:
    """Raise ReportError where `value` has not this shape."""
    if isinstance(shape, Maybe):
        if value is not None:
            check(value, shape.shape, where, command)
    elif isinstance(shape, _Anything):
        return
    elif isinstance(shape, Each):
        _kind(value, dict, "an object", where, command)
        for name, item in value.items():
            check(item, shape.shape, f"{where}: {name}", command)
    elif isinstance(shape, Mapping):
        _kind(value, dict, "an object", where, command)
        for name, inner in shape.items():
            check(value.get(name), inner, f"{where}: {name}", command)
    elif isinstance(shape, list):
        _kind(value, list, "a list", where, command)
        for number, item in enumerate(value):
            check(item, shape[0], f"{where}[{number}]", command)
    elif shape is float:
        right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        _right(right, "a number", value, where, command)
    else:
        right = isinstance(value, shape) and (shape is bool or not isinstance(value, bool))
        _right(right, {str: "a text", int: "a whole number", bool: "true or false"}[shape], value, where, command)


def _kind(value: Any, kind: type, name: str, where: str, command: str) -> None:
    _right(isinstance(value, kind), name, value, where, command)


def _right(right: bool, expected: str, value: Any, where: str, command: str) -> None:
    if not right:
        got = "nothing" if value is None else repr(value)[:60]
        raise ReportError(f"{where}: expected {expected}, got {got}; make the file again with: {command}")
