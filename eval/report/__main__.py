"""`python -m eval.report`: the page of an evaluation with all that was measured beside it, as one HTML file."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from drafters.errors import DraftersError
from eval.report.annotations import proved_since
from eval.report.html.page import NAME, render
from eval.report.sources import further, newest_report, read_report


def main(arguments: list[str] | None = None) -> int:
    """Write the HTML report of the chosen or newest report.json; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m eval.report", description=__doc__)
    parser.add_argument("report", type=Path, nargs="?", help="report.json; by default the newest one below RUNS/eval")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="where certificates, curves and traces are looked for"
    )
    parser.add_argument("--out", type=Path, help=f"file to write; by default RUNS/report/<key of the report>/{NAME}")
    chosen = parser.parse_args(arguments)
    try:
        path = chosen.report or newest_report(chosen.runs)
        report = read_report(path)
        more = further(chosen.runs, report.code)
        if report.code:
            report = proved_since(report, more.certificate)
        page = render(report, more)
    except DraftersError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    out = chosen.out or chosen.runs / "report" / path.resolve().parent.name / NAME
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    partial.write_bytes(page)
    partial.replace(out)
    print(f"report of {path}: {out.resolve()} ({len(page) / 1e3:,.0f} kB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
