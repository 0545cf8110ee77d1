"""The head of the page: the figures that matter most, and all rows."""

from __future__ import annotations

from collections.abc import Sequence

from eval.report.html.parts import HtmlTable, Missing, Part, Section, TableCell, named, number, spread, words
from eval.report.html.sections import verdict
from eval.report.row import ReportRow
from eval.report.row_names import fastest, label_with_drafter, temperatures
from eval.report.schema import Report
from eval.report.terminal.comparisons import NONE as DASH
from eval.report.terminal.comparisons import comparisons

PROVED = ("exact", "pathwise")
NO_CLAIM = "no statement"  # a report of before rows said so


def tiles(report: Report) -> list[tuple[str, str, str]]:
    """(figure, what it is, further words) for the top of the page."""
    rows = report.rows
    found = verdict.tiles(report)
    for temperature in temperatures(rows) if not found else []:
        if (row := fastest(rows, temperature)) is None:
            continue
        speedup = row.speedup_vs_autoregressive
        said = "speed not measured" if speedup is None else f"{speedup:.2f}\u00d7"
        found.append((said, f"fastest at T = {temperature:g}, against plain decoding", label_with_drafter(row, rows)))
    found.append(
        (
            f"{100 * report.coverage:.1f} %",
            "of the counted text is covered",
            f"{report.kept:,} of {report.drafter_vocabulary:,} tokens kept",
        )
    )
    costs = report.costs
    what = f"a drafter forward {1e3 * costs.d_pruned:.2f} ms, a target forward {1e3 * costs.t:.2f} ms"
    found.append((f"{costs.c:.3f}", "c: what a packaged draft costs of a target forward", what))
    return found


def results(report: Report) -> Section:
    """All rows, sortable: what is expected of them, and what the clock said; beneath, what was measured of their rounds."""
    rows = report.rows
    prompts = report.prompts
    if report.positions:
        return Section(
            "results",
            "All rows",
            f"Acceptance and tokens per forward are expected, on up to {report.positions:,} positions of the target's own text, the "
            "same for all; the gain is over the unpruned drafter with plain rejection. Speed is by the clock on "
            f"{prompts.count} prompts of {prompts.suite}, up to {prompts.max_new_tokens} new tokens, one request at a time. In "
            "brackets 95 % intervals. Click on a heading to sort.",
            tables=[_expected(rows), _measured(rows)],
        )
    return Section(
        "results",
        "All rows",
        f"{prompts.count} prompts of {prompts.suite}, up to {prompts.max_new_tokens} new tokens, one request at a time. "
        "In brackets 95 % intervals over prompts; the last two columns are ratios of tokens per second. Click on a heading to sort.",
        tables=[
            HtmlTable(
                (
                    "T", "sampler", "drafter", "drafts up to", "kept", "lossless", "acceptance rate", "block efficiency",
                    "tokens/s", "vs plain", "vs unpruned",
                ),
                [_row(row, rows) for row in rows],
            )
        ],
    )  # fmt: skip


def _expected(rows: Sequence[ReportRow]) -> HtmlTable:
    columns = (
        "T", "sampler", "drafter", "drafts up to", "kept", "lossless", "acceptance", "gain", "tokens per forward", "tokens/s",
        "vs plain", "in words", "vs unpruned",
    )  # fmt: skip
    return HtmlTable(columns, [_expected_row(row, rows) for row in rows])


def _expected_row(row: ReportRow, rows: Sequence[ReportRow]) -> list[TableCell]:
    own = _row(row, rows)
    said = None
    if not row.plain:
        said = verdict.in_words(row.speedup_vs_autoregressive_low, row.speedup_vs_autoregressive_high)
    expected = [
        spread(row.estimate("acceptance"), 3),
        spread(row.estimate("acceptance_gain"), 3, "+"),
        spread(row.estimate("tokens_per_forward")),
    ]
    return [*own[:6], *expected, own[8], own[9], words(said, tone=verdict.tone(said)), own[10]]


def _measured(rows: Sequence[ReportRow]) -> HtmlTable:
    cells = []
    for row in rows:
        own, counts = _row(row, rows), (row.accepted, row.verified, row.drafted, row.target_forwards)
        cells.append([*own[:3], *own[6:8], *(number(count, "{:,d}") for count in counts)])
    columns = (
        "T", "sampler", "drafter", "acceptance rate", "block efficiency", "accepted", "verified", "drafted", "target forwards",
    )  # fmt: skip
    caption = "Of the timed runs: far fewer rounds than the expectations rest on, and other texts for each sampler."
    return HtmlTable(columns, cells, caption, folded="Measured acceptance and block efficiency")


def papers(report: Report) -> Part:
    """One table per comparison of a paper."""
    title, found = "Comparisons of papers", comparisons(report)
    if not found:
        reason = "the rows that papers compare were not measured together"
        return Missing("papers", title, reason, [report.command("eval", "eval.compare=true", "eval.samplers=null")])
    tables = [
        HtmlTable(
            [name.replace("\n", " ") for name in item.header],
            [[words(cells[0]), *(_figure(text) for text in cells[1:])] for cells in item.body],
            item.sentence,
            item.title,
            dense=True,
        )
        for item in found
    ]
    return Section(
        "papers", title, "What the papers behind these samplers compare, measured on this pair.", tables=tables
    )


def _figure(text: str) -> TableCell:
    """A cell that was written for the terminal: it sorts by the number it begins with."""
    if text == DASH:
        return number(None)
    try:
        value = float(text.split()[0].replace(",", ""))
    except (ValueError, IndexError):
        value = None
    return TableCell(text, value, number=True)


def _row(row: ReportRow, rows: Sequence[ReportRow]) -> list[TableCell]:
    return [
        *named(row, rows),
        number(row.nodes, "{:,d}"),
        number(row.kept, "{:,}"),
        proof(row),
        spread(row.estimate("acceptance_rate")),
        spread(row.estimate("block_efficiency")),
        number(row.tokens_per_second, "{:,.1f}"),
        _speedup(row, "speedup_vs_autoregressive"),
        _speedup(row, "speedup_vs_unpruned"),
    ]


def proof(row: ReportRow) -> TableCell:
    """What the certificate says of the row's sampler."""
    if row.plain:
        return words(None)
    said = row.lossless or NO_CLAIM
    tone = "good" if said in PROVED else "bad" if row.lossy else ""
    return words(said, note=row.lossy or "", tone=tone)


def _speedup(row: ReportRow, name: str) -> TableCell:
    found = row.estimate(name)
    if found is not None and found.low == found.high:  # the row that the others are compared with
        return number(found.value)
    return spread(found)
