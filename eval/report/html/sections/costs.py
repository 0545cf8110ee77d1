"""Where the time goes: the parts of a cycle, and how far stop policies are from an oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from eval.report.html.charts import Bar, Mark, bars
from eval.report.html.parts import Figure, HtmlTable, Missing, Part, Section, dots, named, number, words
from eval.report.row import Key, ReportRow
from eval.report.row_names import drafters, label, temperatures
from eval.report.schema import ForwardCosts, Report

DRAFTING, VERIFYING, OTHER = 0, 1, 5


@dataclass(frozen=True)
class Cycle:
    """Mean seconds of one round: one target forward and the drafts it verifies."""

    measured: float
    drafting: float
    verifying: float

    @property
    def other(self) -> float:
        """Sampling, caches, bookkeeping and the prompt's share; below 0 where forwards alone were timed too slow."""
        return self.measured - self.drafting - self.verifying


def cycle(row: ReportRow, drafter_forwards: int | None, costs: ForwardCosts) -> Cycle | None:
    """The row's mean round; None where drafter forwards were not counted or nothing was timed.

    t(n) is taken at the mean number of drafts, linear between the measured n; None beyond the longest measured forward.
    """
    prices = {item.drafter: item.median for item in costs.d}
    times = {item.n: item.median for item in costs.t_n}
    seconds, forwards = row.seconds, row.target_forwards
    if not times or not seconds or not forwards or drafter_forwards is None:
        return None
    drafted = drafter_forwards / forwards
    if drafted + 1 > max(times) or (drafted and row.drafter not in prices):
        return None
    verifying = float(np.interp(drafted + 1, sorted(times), [times[n] for n in sorted(times)]))
    drafting = drafted * prices[str(row.drafter)] if drafted else 0.0
    return Cycle(seconds / forwards, drafting, verifying)


def cycles(report: Report) -> Part:
    """Bars of drafting, verifying and the rest, per token and per round."""
    title = "Cost of a cycle"
    rows, entries = report.rows, {item.identity: item.drafter_forwards for item in report.rounds or ()}
    found = []
    for row in rows:
        counted = 0 if row.plain else entries.get(row.identity)
        if (made := cycle(row, counted, report.costs)) is not None:
            found.append((row, made))
    if not any(not row.plain for row, _ in found):
        return Missing("cycle", title, "this report holds nothing about single rounds", [report.command("eval")])
    figures = []
    for temperature in temperatures(row for row, _ in found):
        chosen = [(row, made) for row, made in found if row.temperature == temperature]
        heading = f"Milliseconds per emitted token, T = {temperature:g}"
        figures.append(
            Figure(heading, bars([_bar(*item, rows) for item in chosen], heading, "ms per token", "{:.2f} ms".format))
        )
    return Section(
        "cycle",
        title,
        "What one emitted token costs: forwards of the drafter and of the target as timed alone, and the rest of the measured time "
        "(sampling, caches, the prompt). The shorter the bar, the faster. Trees and string-level samplers, whose drafter forwards "
        "are not counted, are left out.",
        legend=[(DRAFTING, "drafting"), (VERIFYING, "target forward"), (OTHER, "everything else")],
        figures=figures,
        tables=[_cycle_table(found, rows)],
        notes=_notes(found, rows),
    )


def _bar(row: ReportRow, made: Cycle, rows: Sequence[ReportRow]) -> Bar:
    scale = 1e3 * row.target_forwards / row.tokens
    parts = (
        (DRAFTING, made.drafting, "drafting"),
        (VERIFYING, made.verifying, "target forward"),
        (OTHER, made.other, "else"),
    )
    name = label(row, rows) if row.plain else f"{label(row, rows)} \u00b7 {row.drafter}"
    return Bar(name, [(series, max(0.0, seconds) * scale, what) for series, seconds, what in parts])


def _cycle_table(found: Sequence[tuple[ReportRow, Cycle]], rows: Sequence[ReportRow]) -> HtmlTable:
    columns = (
        "T", "sampler", "drafter", "drafts", "drafting ms", "target ms", "else ms", "round ms", "tokens", "ms/token",
    )  # fmt: skip
    cells = []
    for row, made in found:
        tokens = row.tokens / row.target_forwards
        cells.append(
            [
                *named(row, rows),
                number(row.drafted / row.target_forwards, "{:.2f}"),
                *(number(1e3 * part) for part in (made.drafting, made.verifying, made.other, made.measured)),
                number(tokens),
                number(1e3 * made.measured / tokens),
            ]
        )
    return HtmlTable(columns, cells, "Means over rounds.", folded="The same as a table")


def _notes(found: Sequence[tuple[ReportRow, Cycle]], rows: Sequence[ReportRow]) -> list[str]:
    below = [f"{label(row, rows)} at T = {row.temperature:g}" for row, made in found if made.other < 0]
    if not below:
        return []
    return [
        "In these rows the forwards, timed alone, add up to more than the measured time (a machine that was busier then, or too few "
        f"runs: eval.cost_runs); their rest is drawn as 0: {', '.join(below)}."
    ]


def policies(report: Report) -> Part:
    """Every row's speed-up by costs beside that of an oracle whose drafts are all accepted."""
    title = "Stop policies against an oracle"
    rows = report.rows
    oracles = {
        item.identity: item.oracle_by_costs
        for item in report.rounds or ()
        if item.drafter_forwards is not None and item.oracle_by_costs is not None
    }
    shown = [row for row in rows if row.speedup_by_costs is not None and row.identity in oracles]
    if not shown:
        return Missing("policies", title, "this report holds nothing about single rounds", [report.command("eval")])
    names = drafters(rows)
    mark = partial(_against, oracles=oracles, names=names, rows=rows)
    stops = sorted({str(row.stop) for row in shown})
    note = (
        f"Only one policy was measured ({stops[0]}); measure others with {report.command('eval', 'stop=...')}."
        if len(stops) == 1
        else ""
    )
    return Section(
        "policies",
        title,
        "The dot is the speed-up that this row's rounds would have if forwards were all the work, the diamond the same if the "
        "policy had known which drafts will be accepted and made no others (DISCO's oracle, arXiv 2405.04304, within the drafts "
        "that were made). The distance is what a better stop policy can win at most. Chains of token-level samplers only.",
        legend=list(enumerate(names)),
        figures=dots(shown, names, "Speed-up by costs", "speed-up over plain decoding", mark, one=True),
        tables=[_policy_table(shown, oracles, rows)],
        notes=[note] if note else [],
    )


def _against(row: ReportRow, oracles: Mapping[Key, float], names: list[str], rows: Sequence[ReportRow]) -> Mark:
    oracle = oracles[row.identity]
    note = f"oracle {oracle:.2f} [{row.drafter}]"
    return Mark(label(row, rows), row.speedup_by_costs, series=names.index(str(row.drafter)), best=oracle, note=note)


def _policy_table(shown: Sequence[ReportRow], oracles: Mapping[Key, float], rows: Sequence[ReportRow]) -> HtmlTable:
    columns = (
        "T", "sampler", "drafter", "policy", "drafts per round", "in vain", "by costs", "oracle", "share of oracle",
    )  # fmt: skip
    cells = [
        [
            *named(row, rows),
            words(row.stop),
            number(row.drafted / row.target_forwards),
            number(100 * (1 - row.accepted / row.drafted) if row.drafted else None, "{:.0f} %"),
            number(row.speedup_by_costs, "{:.2f}\u00d7"),
            number(oracles[row.identity], "{:.2f}\u00d7"),
            number(100 * (row.speedup_by_costs or 0.0) / oracles[row.identity], "{:.0f} %"),
        ]
        for row in shown
    ]
    return HtmlTable(
        columns, cells, "In vain: drafted tokens that did not become output.", folded="The same as a table"
    )
