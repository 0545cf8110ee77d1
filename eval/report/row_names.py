"""What a row of the report is called, and which rows of two reports are the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eval.run.records import AUTOREGRESSIVE, PACKAGE, SPECULATIVE, UNPRUNED

Row = Mapping[str, Any]
Identity = tuple[Any, ...]
PLAIN = "plain decoding"
# Of a row and of whatever belongs to it; reports of before `preset` have none, and there it is the sampler.
IDENTITY = ("temperature", "drafter", "preset", "executor", "stop")


def identity(row: Row) -> Identity:
    """Equal for rows that measure the same thing. The number of kept tokens is a result, no part of it."""
    return tuple(preset(row) if field == "preset" else row.get(field) for field in IDENTITY)


def preset(row: Row) -> str | None:
    """The file of conf/sampler; None for plain decoding."""
    return row.get("preset") or row["sampler"]


def is_plain(row: Row) -> bool:
    """Whether this is plain autoregressive decoding."""
    return bool(row["executor"] == AUTOREGRESSIVE)


def label(row: Row, rows: Sequence[Row]) -> str:
    """Sampler, and stop policy and executor where `rows` differ in them; the drafter is told by colour."""
    if is_plain(row):
        return PLAIN
    parts = [str(preset(row))]
    for field, usual in (("stop", None), ("executor", SPECULATIVE)):
        if len({other[field] for other in rows if not is_plain(other)}) > 1 and row[field] != usual:
            parts.append(str(row[field]))
    return ", ".join(parts)


def full_label(row: Row, rows: Sequence[Row]) -> str:
    """As `label`, with drafter and temperature: for sentences."""
    where = f"T = {row['temperature']:g}"
    return f"{label(row, rows)}, {where}" if is_plain(row) else f"{label(row, rows)} ({row['drafter']}), {where}"


def temperatures(rows: Iterable[Row]) -> list[float]:
    """Ascending, each once."""
    return sorted({row["temperature"] for row in rows})


def drafters(rows: Iterable[Row]) -> list[str]:
    """Package first, then the unpruned one, then the others as they appear."""
    found = dict.fromkeys(row["drafter"] for row in rows if row["drafter"] is not None)
    return sorted(found, key=lambda name: (name != PACKAGE, name != UNPRUNED))


def sorted_by_drafter(rows: Iterable[Row], names: Sequence[str]) -> list[Row]:
    """Rows of the same drafter together, in the order of `names`; else as they were."""
    return sorted(rows, key=lambda row: names.index(row["drafter"]))


def fastest(rows: Iterable[Row], temperature: float) -> Row | None:
    """The speculative row with most tokens per second; None where no speed was measured."""
    timed = [
        row
        for row in rows
        if row["temperature"] == temperature and not is_plain(row) and row["tokens_per_second"] is not None
    ]
    return max(timed, key=lambda row: row["tokens_per_second"], default=None)
