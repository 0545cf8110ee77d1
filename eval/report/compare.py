"""What changed from one report to another; exit status 1 if a row got worse beyond its interval.

A figure got worse when the 95 % interval of the difference A - B lies wholly above zero, its lower end by MOVER from the two
intervals (Zou and Donner 2008, doi 10.1002/sim.3095, equation 3):

    (A - B) - sqrt((A - low A)^2 + (high B - B)^2) > 0

and, for speed-ups, when the loss is also more than the tolerance: intervals are over prompts and know nothing of a machine that
was busier that day. On the same prompts the two reports go up and down together; the interval is then too wide rather than
too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eval.report.html.sections.results import PROVED
from eval.report.row import Key, ReportRow
from eval.report.row_names import full_label, label
from eval.report.schema import Report
from eval.report.sources import ReportError, read_report
from eval.run.metrics import Estimate

COUNTED = ("acceptance_rate", "block_efficiency")  # sums of random decisions, which a seed repeats
TIMED = ("speedup_vs_autoregressive",)
EXPECTED = {
    "acceptance_rate": "acceptance",
    "block_efficiency": "tokens_per_forward",
}  # of both reports, where both have them
FIGURES = {
    "acceptance_rate": "acceptance", "block_efficiency": "block eff.", "speedup_vs_autoregressive": "vs plain",
    "acceptance": "expected acc.", "tokens_per_forward": "expected t/f",
}  # fmt: skip
TOLERANCE = 0.05
WORSE, BETTER, SAME, UNKNOWN = "worse", "better", "same", "no interval"
_SAME_WORK = ("pair", "prompts.suite", "prompts.max_new_tokens")
_SAME_MACHINE = ("device", "dtype", "threads")


@dataclass
class CompareOptions:
    """The options of a comparison."""

    before: Path  # report.json of what was good
    after: Path  # report.json of what is on trial
    tolerance: float = TOLERANCE  # share of a speed-up that may be lost without being worse
    all: bool = False  # show figures that stayed the same, too


@dataclass(frozen=True)
class Change:
    """One figure of one row in both reports."""

    temperature: float
    sampler: str  # with stop policy and executor where the rows differ in them
    drafter: str
    field: str
    before: float
    after: float
    verdict: str  # WORSE, BETTER, SAME or UNKNOWN


@dataclass(frozen=True)
class RowComparison:
    """Everything that is said about two reports."""

    changes: list[Change]
    gone: list[str]  # rows of A that B has not
    new: list[str]
    lost: list[str]  # sentences: proofs and identities that A had and B has not
    notes: list[str]

    @property
    def passed(self) -> bool:
        """Nothing got worse, nothing is gone."""
        return not (self.gone or self.lost or any(change.verdict == WORSE for change in self.changes))


def compare(before: Report, after: Report, tolerance: float = TOLERANCE) -> RowComparison:
    """Compare two reports row by row.

    Args:
        tolerance: share of a speed-up that may be lost without being worse.

    Raises:
        ReportError: the reports are of different work: another pair, other prompts or lengths.
    """
    for path in _SAME_WORK:
        if (own := attrgetter(path)(before)) != (other := attrgetter(path)(after)):
            raise ReportError(
                f"the reports are of different work, {path}: expected {own!r} as in the first, got {other!r}; "
                "compare reports made with the same pair, suite and eval.max_new_tokens"
            )
    notes = [
        f"{path} differs: {attrgetter(path)(before)} and {attrgetter(path)(after)}; speed is not compared"
        for path in _SAME_MACHINE
        if attrgetter(path)(before) != attrgetter(path)(after)
    ]
    fields = COUNTED if notes else COUNTED + TIMED
    if before.prompts.count != after.prompts.count:
        counts = f"{before.prompts.count} and {after.prompts.count}"
        notes.append(f"the numbers of prompts differ: {counts}; that alone moves every figure within its interval")
    ours, theirs = ({row.identity: row for row in report.rows} for report in (before, after))
    both = [key for key in ours if key in theirs]
    return RowComparison(
        changes=[change for key in both for change in _changes(ours[key], theirs[key], fields, tolerance, before.rows)],
        gone=[full_label(row, before.rows) for key, row in ours.items() if key not in theirs],
        new=[full_label(row, after.rows) for key, row in theirs.items() if key not in ours],
        lost=[*_lost(ours, theirs, before.rows), *_greedy(before, after)],
        notes=notes,
    )


def lost_for_sure(before: Estimate, after: Estimate) -> float:
    """Lower end of the interval of before - after by MOVER (see the module). Raises ValueError where an interval is missing."""
    if before.low is None or after.high is None:
        raise ValueError(f"expected two intervals, got {before} and {after}")
    return before.value - after.value - math.hypot(before.value - before.low, after.high - after.value)


def _changes(
    ours: ReportRow, theirs: ReportRow, fields: tuple[str, ...], tolerance: float, rows: Sequence[ReportRow]
) -> Iterator[Change]:
    if ours.plain:
        return
    name = ours.temperature, label(ours, rows), str(ours.drafter)
    for measured in fields:
        # Distributions know more than the coins of a few prompts do.
        known = EXPECTED.get(measured)
        both = known is not None and ours.estimate(known) is not None and theirs.estimate(known) is not None
        field = known if known is not None and both else measured
        before, after = ours.estimate(field), theirs.estimate(field)
        if before is None and after is None:
            continue
        said = UNKNOWN
        if before is not None and after is not None:
            said = _verdict(before, after, tolerance if field in TIMED else 0.0)
        yield Change(*name, field, _value(before), _value(after), said)


def _value(found: Estimate | None) -> float:
    return math.nan if found is None else found.value


def _verdict(a: Estimate, b: Estimate, tolerance: float) -> str:
    if None in (a.low, a.high, b.low, b.high):
        return SAME if a.value == b.value else UNKNOWN
    if lost_for_sure(a, b) > 0 and a.value - b.value > tolerance * a.value:
        return WORSE
    return BETTER if lost_for_sure(b, a) > 0 and b.value - a.value > tolerance * a.value else SAME


def _lost(ours: Mapping[Key, ReportRow], theirs: Mapping[Key, ReportRow], rows: Sequence[ReportRow]) -> list[str]:
    return [
        f"{full_label(row, rows)}: was proved lossless ({row.lossless}), is {theirs[key].lossless}"
        for key, row in ours.items()
        if key in theirs and row.lossless in PROVED and theirs[key].lossless not in PROVED
    ]


def _greedy(before: Report, after: Report) -> list[str]:
    was, now = before.greedy_identity.different, after.greedy_identity.different
    return [f"greedy outputs that differ from plain decoding's: {was}, now {now}"] if now > was else []


def show(found: RowComparison, console: Console, everything: bool) -> None:
    """Print what changed; `everything`: also what stayed the same."""
    shown = [change for change in found.changes if everything or change.verdict != SAME]
    if shown:
        table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        for column in ("T", "sampler", "drafter", "figure", "before", "after", "change", ""):
            table.add_column(column, justify="right" if column in ("T", "before", "after", "change") else "left")
        for change in shown:
            share = f"{100 * (change.after / change.before - 1):+.1f} %" if change.before else ""
            whose = f"{change.temperature:g}", escape(change.sampler), escape(change.drafter), FIGURES[change.field]
            style = {WORSE: "red", BETTER: "green"}.get(change.verdict)
            table.add_row(*whose, f"{change.before:.3f}", f"{change.after:.3f}", share, change.verdict, style=style)
        console.print(table)
    for what, names in (("gone", found.gone), ("new", found.new)):
        for name in names:
            console.print(f"{what}: {name}", markup=False, soft_wrap=True)
    for sentence in [*found.lost, *found.notes]:
        console.print(sentence, markup=False, soft_wrap=True)
    counts = {
        verdict: sum(change.verdict == verdict for change in found.changes)
        for verdict in (WORSE, BETTER, SAME, UNKNOWN)
    }
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    console.print(f"{len(found.changes)} figures compared: {said}", markup=False)


def main(options: CompareOptions) -> int:
    """Print what changed; returns 0 if nothing got worse, 1 if something did or is gone."""
    found = compare(read_report(options.before), read_report(options.after), options.tolerance)
    show(found, Console(), options.all)
    return 0 if found.passed else 1
