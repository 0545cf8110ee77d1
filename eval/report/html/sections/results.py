"""The head of the page: the figures that matter most, and all rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eval.report.html.parts import HtmlTable, Missing, Part, Section, TableCell, number, spread, words
from eval.report.html.sections import verdict
from eval.report.row_names import Row, fastest, is_plain, label, temperatures
from eval.report.terminal.comparisons import NONE as DASH
from eval.report.terminal.comparisons import comparisons

PROVED = ("exact", "pathwise")
NO_CLAIM = "no statement"  # a report of before rows said so


def tiles(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(figure, what it is, further words) for the top of the page."""
    rows = report["rows"]
    found = verdict.tiles(report)
    for temperature in temperatures(rows) if not found else []:
        if (row := fastest(rows, temperature)) is None:
            continue
        speedup = row["speedup_vs_autoregressive"]
        said = "speed not measured" if speedup is None else f"{speedup:.2f}\u00d7"
        found.append(
            (said, f"fastest at T = {temperature:g}, against plain decoding", f"{label(row, rows)} ({row['drafter']})")
        )
    found.append(
        (
            f"{100 * report['coverage']:.1f} %",
            "of the target's text is covered",
            f"{report['kept']:,} of {report['drafter_vocabulary']:,} tokens kept",
        )
    )
    costs = report["costs"]
    what = f"a drafter forward {1e3 * costs['d_pruned']:.2f} ms, a target forward {1e3 * costs['t']:.2f} ms"
    found.append((f"{costs['c']:.3f}", "c, drafter's cost / target's", what))
    return found


def results(report: Mapping[str, Any]) -> Section:
    """All rows, sortable: what is expected of them, and what the clock said; beneath, what was measured of their rounds."""
    rows = report["rows"]
    prompts = report["prompts"]
    if (positions := max((row.get("text_positions") or 0 for row in rows), default=0)) > 0:
        return Section(
            "results",
            "All rows",
            f"Acceptance and tokens per forward are expected, on up to {positions:,} positions of the target's own text, the same for "
            "all; the gain is over the unpruned drafter with plain rejection. Speed is by the clock on "
            f"{prompts['count']} prompts of {prompts['suite']}, up to {prompts['max_new_tokens']} new tokens, one request at a time. In "
            "brackets 95 % intervals. Click on a heading to sort.",
            tables=[_expected(rows), _measured(rows)],
        )
    return Section(
        "results",
        "All rows",
        f"{prompts['count']} prompts of {prompts['suite']}, up to {prompts['max_new_tokens']} new tokens, one request at a time. "
        "In brackets 95 % intervals over prompts; the last two columns are ratios of tokens per second. Click on a heading to sort.",
        tables=[
            HtmlTable(
                (
                    "T", "sampler", "drafter", "kept", "lossless", "acceptance rate", "block efficiency", "tokens/s",
                    "vs plain", "vs unpruned",
                ),
                [_row(row, rows) for row in rows],
            )
        ],
    )  # fmt: skip


def _expected(rows: list[Row]) -> HtmlTable:
    columns = (
        "T", "sampler", "drafter", "kept", "lossless", "acceptance", "gain", "tokens per forward", "tokens/s", "vs plain", "in words",
        "vs unpruned",
    )  # fmt: skip
    return HtmlTable(columns, [_expected_row(row, rows) for row in rows])


def _expected_row(row: Row, rows: list[Row]) -> list[TableCell]:
    own = _row(row, rows)
    said = None
    if not is_plain(row):
        said = verdict.in_words(row["speedup_vs_autoregressive_low"], row["speedup_vs_autoregressive_high"])
    expected = [
        spread(row.get(name), row.get(f"{name}_low"), row.get(f"{name}_high"), form)
        for name, form in (("acceptance", "{:.3f}"), ("acceptance_gain", "{:+.3f}"), ("tokens_per_forward", "{:.2f}"))
    ]
    return [*own[:5], *expected, own[7], own[8], words(said, tone=verdict.tone(said)), own[9]]


def _measured(rows: list[Row]) -> HtmlTable:
    cells = []
    for row in rows:
        own = _row(row, rows)
        cells.append(
            [
                *own[:3],
                own[5],
                own[6],
                number(row["accepted"], "{:,d}"),
                number(row["verified"], "{:,d}"),
                number(row["drafted"], "{:,d}"),
                number(row["target_forwards"], "{:,d}"),
            ]
        )
    columns = (
        "T", "sampler", "drafter", "acceptance rate", "block efficiency", "accepted", "verified", "drafted", "target forwards",
    )  # fmt: skip
    caption = "Of the timed runs: far fewer rounds than the expectations rest on, and other texts for each sampler."
    return HtmlTable(columns, cells, caption, folded="Measured acceptance and block efficiency")


def papers(report: Mapping[str, Any]) -> Part:
    """One table per comparison of a paper."""
    title, found = "Comparisons of papers", comparisons(report)
    if not found:
        reason = "the rows that papers compare were not measured together"
        return Missing("papers", title, reason, ['make eval ARGS="eval.compare=true eval.samplers=null"'])
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


def _row(row: Row, rows: list[Row]) -> list[TableCell]:
    return [
        number(row["temperature"], "{:g}"),
        words(label(row, rows)),
        words(row["drafter"]),
        number(row["kept"], "{:,}"),
        proof(row),
        spread(row["acceptance_rate"], row["acceptance_rate_low"], row["acceptance_rate_high"]),
        spread(row["block_efficiency"], row.get("block_efficiency_low"), row.get("block_efficiency_high")),
        number(row["tokens_per_second"], "{:,.1f}"),
        _speedup(row, "speedup_vs_autoregressive"),
        _speedup(row, "speedup_vs_unpruned"),
    ]


def proof(row: Row) -> TableCell:
    """What the certificate says of the row's sampler."""
    if is_plain(row):
        return words(None)
    said = row.get("lossless") or NO_CLAIM
    tone = "good" if said in PROVED else "bad" if row.get("lossy") else ""
    return words(said, note=row.get("lossy") or "", tone=tone)


def _speedup(row: Row, name: str) -> TableCell:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if low == high:  # the row that the others are compared with
        low = None
    return spread(row[name], low, high)
