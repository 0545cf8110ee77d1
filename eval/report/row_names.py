"""What a row of the report is called, and which of several are meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from eval.report.row import ReportRow, RowRounds
from eval.run.records import PACKAGE, SPECULATIVE, UNPRUNED

PLAIN = "plain decoding"


def label(row: ReportRow | RowRounds, rows: Sequence[ReportRow]) -> str:
    """Sampler, and stop policy and executor where `rows` differ in them; the drafter is told by colour."""
    if row.plain:
        return PLAIN
    parts = [str(row.name)]
    others = [other for other in rows if not other.plain]
    if len({other.stop for other in others}) > 1 and row.stop is not None:
        parts.append(row.stop)
    if len({other.executor for other in others}) > 1 and row.executor != SPECULATIVE:
        parts.append(row.executor)
    return ", ".join(parts)


def label_with_drafter(row: ReportRow, rows: Sequence[ReportRow]) -> str:
    """`label`, with the drafter in brackets."""
    return label(row, rows) if row.plain else f"{label(row, rows)} ({row.drafter})"


def full_label(row: ReportRow, rows: Sequence[ReportRow]) -> str:
    """Name a row in a sentence: `label`, with drafter and temperature."""
    return f"{label_with_drafter(row, rows)}, T = {row.temperature:g}"


def temperatures(rows: Iterable[ReportRow | RowRounds]) -> list[float]:
    """The temperatures of the rows, ascending, each once."""
    return sorted({row.temperature for row in rows})


def drafters(rows: Iterable[ReportRow]) -> list[str]:
    """Package first, then the unpruned one, then the others as they appear."""
    found = dict.fromkeys(row.drafter for row in rows if row.drafter is not None)
    return sorted(found, key=lambda name: (name != PACKAGE, name != UNPRUNED))


def sorted_by_drafter(rows: Iterable[ReportRow], names: Sequence[str]) -> list[ReportRow]:
    """Rows of the same drafter together, in the order of `names`; else as they were."""
    return sorted(rows, key=lambda row: names.index(str(row.drafter)))


def fastest(rows: Iterable[ReportRow], temperature: float) -> ReportRow | None:
    """The speculative row with most tokens per second; None where no speed was measured."""
    timed = [row for row in rows if row.temperature == temperature and row.drafted_here and row.tokens_per_second]
    return max(timed, key=lambda row: row.tokens_per_second or 0.0, default=None)
