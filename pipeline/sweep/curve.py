"""The curve that stage sweep writes and prints: rows, the size that pays per sampling, and what the report page draws."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

from rich.console import Console
from rich.table import Table

from drafters.io.atomic import write_atomic, write_json
from eval.acceptance import vocabulary_curve
from eval.costs.forwards import Costs
from pipeline.runner.stage import say
from pipeline.sweep.size import HEALED

REPORT, TABLE = "curve.json", "curve.csv"
OWN = "test"  # the text that belongs to what was fitted; others are suites'


class Row(TypedDict):
    """What one way to spend the pruned mass reaches at one size under one sampling."""

    text: str  # OWN, or the suite whose answers were judged
    temperature: float
    top_p: float
    kept: int
    kept_share: float
    method: str
    candidate: str | None
    acceptance: float | None
    low: float | None
    high: float | None
    head_share: float
    d_milliseconds: float
    tokens_per_second: float | None
    over_tli: NotRequired[Mapping[str, float | None]]
    over_full: NotRequired[Mapping[str, float | None]]


class Drawn(NamedTuple):
    """A row and the line of the page's chart that it is a point of."""

    line: str
    row: Row


def write(out: Path, rows: list[Row], costs: Costs) -> None:
    """Find the knee per sampling and write curve.json and curve.csv below ``out``."""
    knees, own = [], [row for row in rows if row["text"] == OWN]
    for kind in dict.fromkeys((row["temperature"], row["top_p"]) for row in own):
        best = vocabulary_curve.knee([row for row in own if (row["temperature"], row["top_p"]) == kind])
        knees.append(None if best is None else dict(best))
    report = {
        "schema": 1,
        **_for_the_page(own, knees, costs),
        "rows": rows,
        "knees": knees,
        "t_milliseconds": {n: 1e3 * one.median for n, one in costs.target.items()},
    }
    lines = io.StringIO()
    plain = [{key: value for key, value in row.items() if not key.startswith("over_")} for row in rows]
    writer = csv.DictWriter(lines, list(plain[0]))
    writer.writeheader()
    writer.writerows(plain)
    write_atomic(out / TABLE, lines.getvalue().encode())
    write_json(out / REPORT, report)


def _for_the_page(rows: list[Row], knees: Sequence[Mapping[str, Any] | None], costs: Costs) -> dict[str, object]:
    """The same figures as `eval.report.sources.CURVE` reads them: points, and the size chosen under the first sampling."""
    plain = costs.target[1].median
    points = [
        {
            "variant": line,
            "temperature": row["temperature"],
            "kept": row["kept"],
            "acceptance_rate": row["acceptance"],
            "acceptance_rate_low": row["low"],
            "acceptance_rate_high": row["high"],
            "speedup": None if row["tokens_per_second"] is None else row["tokens_per_second"] * plain,
        }
        for line, row in _drawn(rows)
    ]
    best = knees[0]
    if best is None:
        return {"points": points, "knee": None}
    reason = (
        f"with {best['method'].replace('_', ' ')} at T = {best['temperature']:g} the smallest head within 1 % of the most "
        f"tokens per second that acceptance and this machine's forwards predict"
    )
    return {"points": points, "knee": {"kept": best["kept"], "reason": reason}}


def _drawn(rows: list[Row]) -> list[Drawn]:
    """As many lines as a reader can tell apart: of the training-free tails of a size the fastest, of the trained ones the last."""
    found: dict[tuple[object, ...], Drawn] = {}
    for row in rows:
        method = row["method"]
        free, trained = method.startswith("tail_free"), method in ("tail_trained", HEALED)
        line = "tail, training-free" if free else "tail, trained" if trained else method.replace("_", " ")
        key = (row["temperature"], row["top_p"], row["kept"], line)
        slower = free and key in found and (row["tokens_per_second"] or 0) <= (found[key].row["tokens_per_second"] or 0)
        if method != "rdk_exact" and not slower:
            found[key] = Drawn(line, row)
    return list(found.values())


def show(directory: Path, inputs: dict[str, Path], console: Console) -> None:
    """Print the curve and the knee."""
    found = json.loads((directory / REPORT).read_text())
    table = Table(
        "text", "T", "kept", "method", "acceptance", "95 %", "head", "ms/draft", "tok/s*", box=None, pad_edge=False
    )
    for row in found["rows"]:
        span = "" if row["low"] is None else f"{row['low']:.3f}-{row['high']:.3f}"
        speed = "" if row["tokens_per_second"] is None else f"{row['tokens_per_second']:,.0f}"
        table.add_row(
            row["text"], f"{row['temperature']:g}", f"{row['kept_share']:.0%}", row["method"].replace("_", " "), f"{row['acceptance']:.3f}",
            span, f"{row['head_share']:.0%}", f"{row['d_milliseconds']:.2f}", speed,
        )  # fmt: skip
    console.print(table)
    say(console, "* predicted from the acceptance and this machine's forwards of both models")
    for best in filter(None, found["knees"]):
        say(
            console,
            f"T = {best['temperature']:g}: keep {best['kept']:,} tokens ({best['kept_share']:.0%}), "
            f"{best['method'].replace('_', ' ')}: "
            f"the smallest head within 1 % of the most tokens per second (prune.size={best['kept']})",
        )
    say(console, f"curve: {(directory / TABLE).resolve()}", whole=True)
