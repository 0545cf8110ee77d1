"""The page of an evaluation with all that was measured beside it, as one HTML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from drafters.io.atomic import write_atomic
from eval.report.annotations import proved_since
from eval.report.html.page import NAME, render
from eval.report.sources import further, newest_report, read_report


@dataclass
class PageOptions:
    """The options of the page."""

    report: str = ""  # report.json; none: the newest one below runs/eval
    runs: Path = Path("runs")  # where certificates, curves and traces are looked for
    out: str = ""  # file to write; none: runs/report/<key of the report>/


def main(options: PageOptions) -> int:
    """Write the HTML report of the chosen or newest report.json; returns the exit status."""
    path = Path(options.report) if options.report else newest_report(options.runs)
    report = read_report(path)
    more = further(options.runs, report.code)
    if report.code:
        report = proved_since(report, more.certificate)
    page = render(report, more)
    out = Path(options.out) if options.out else options.runs / "report" / path.resolve().parent.name / NAME
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, page)
    print(f"report of {path}: {out.resolve()} ({len(page) / 1e3:,.0f} kB)")
    return 0
