"""The head of the page: the figures that matter most, and all rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eval.report.comparisons import NONE as DASH
from eval.report.comparisons import comparisons
from eval.report.naming import Row, fastest, is_plain, label, temperatures
from eval.report.parts import Cell, Missing, Part, Section, Table, number, spread, words

PROVED = ("exact", "pathwise")
NO_CLAIM = "no statement"  # a report of before rows said so


def tiles(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(figure, what it is, further words) for the top of the page."""
    rows = report["rows"]
    found = []
    for temperature in temperatures(rows):
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
    """All rows, sortable."""
    rows = report["rows"]
    prompts = report["prompts"]
    return Section(
        "results",
        "All rows",
        f"{prompts['count']} prompts of {prompts['suite']}, up to {prompts['max_new_tokens']} new tokens, one request at a time. "
        "In brackets 95 % intervals over prompts; the last two columns are ratios of tokens per second. Click on a heading to sort.",
        tables=[
            Table(
                (
                    "T", "sampler", "drafter", "kept", "lossless", "acceptance rate", "block efficiency", "tokens/s",
                    "vs plain", "vs unpruned",
                ),
                [_row(row, rows) for row in rows],
            )
        ],
    )  # fmt: skip


def papers(report: Mapping[str, Any]) -> Part:
    """One table per comparison of a paper."""
    title, found = "Comparisons of papers", comparisons(report)
    if not found:
        reason = "the rows that papers compare were not measured together"
        return Missing("papers", title, reason, ['make eval ARGS="eval.compare=true eval.samplers=null"'])
    tables = [
        Table(
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


def _figure(text: str) -> Cell:
    """A cell that was written for the terminal: it sorts by the number it begins with."""
    if text == DASH:
        return number(None)
    try:
        value = float(text.split()[0].replace(",", ""))
    except (ValueError, IndexError):
        value = None
    return Cell(text, value, number=True)


def _row(row: Row, rows: list[Row]) -> list[Cell]:
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


def proof(row: Row) -> Cell:
    """What the certificate says of the row's sampler."""
    if is_plain(row):
        return words(None)
    said = row.get("lossless") or NO_CLAIM
    tone = "good" if said in PROVED else "bad" if row.get("lossy") else ""
    return words(said, note=row.get("lossy") or "", tone=tone)


def _speedup(row: Row, name: str) -> Cell:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if low == high:  # the row that the others are compared with
        low = None
    return spread(row[name], low, high)
