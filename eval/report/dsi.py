"""Distributed speculative inference in virtual time: the paper's rows simulated, beside the formulas, and a map of what it gains."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from markupsafe import Markup

from drafters.io.atomic import write_atomic
from eval.command_line import OptionError
from eval.distributed.paper_table import LOOKAHEADS, MOST_SERVERS, ROWS, TOKENS
from eval.distributed.simulation import compare, gain, print_rows
from eval.report.html.page import FILES
from eval.report.html.svg import WIDTH, Axis, element, text, x_grid, y_grid

NOTE = f"""\
paper: Timor et al. 2024 (arXiv 2405.14105), table 1. Its SI loses a target forward at every rejection and is averaged
over lookaheads. ideal: ours, SI and DSI both at their best k of {", ".join(map(str, LOOKAHEADS))} and both counting the target's own token.
DSI uses SP target devices and one for the drafter, SI one of each: per device it is DSI that loses.
"""
BAND, BANDS = 0.05, 12  # of equal colour: gains from 1 to 1.6
LEFT, RIGHT, TOP, BOTTOM = 34, 346, 40, 352


@dataclass
class DsiOptions:
    """The options of the simulation."""

    repeats: int = 200  # requests per configuration, at least 2
    out: Path = Path("runs/dsi")  # folder for heatmap.svg


def main(options: DsiOptions) -> int:
    """Print the table, write the heatmap; returns the exit status."""
    if options.repeats < 2:
        raise OptionError(f"repeats={options.repeats}: expected at least 2, one request has no standard error")
    print(f"{options.repeats} requests of {TOKENS} tokens per configuration, at most {MOST_SERVERS} target servers\n")
    print_rows([compare(row, options.repeats) for row in ROWS], print)
    print(f"\n{NOTE}")
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "heatmap.svg"
    best, c, a = draw_heatmap(path)
    print(f"largest gain over the better of plain decoding and SI: {best:.2f}x, at c = {c:.2f}, a = {a:.2f}")
    print(f"heatmap: {path.resolve()}")
    return 0


def draw_heatmap(path: Path, longest: int = 200) -> tuple[float, float, float]:
    """Write min(plain, SI at its best k <= longest) / DSI over c and a as SVG; returns the largest: (gain, c, a)."""
    c, a = np.linspace(0.01, 1, 100), np.linspace(0, 1, 101)
    values = gain(c, a, longest)
    write_atomic(path, _picture(c, a, values).encode())
    row, column = np.unravel_index(values.argmax(), values.shape)
    return float(values[row, column]), float(c[row]), float(a[column])


def _picture(c: np.ndarray, a: np.ndarray, values: np.ndarray) -> Markup:
    x, y = Axis(0.0, 1.0, LEFT, RIGHT), Axis(0.0, 1.0, BOTTOM, TOP)
    bands = np.clip((values - 1) / BAND, 0, BANDS - 1).astype(int)
    cells = []
    for cost, row in zip(c, bands, strict=True):
        for band, run in groupby(range(len(a)), key=row.__getitem__):  # one rectangle for cells of one colour
            first, *rest = run
            left, right = (
                x(float(a[end]) + half) for end, half in ((first, -0.005), (rest[-1] if rest else first, 0.005))
            )
            cells.append(_cell(band, left, y(cost), right - left, y(cost - 0.01) - y(cost)))
    strip = Axis(1.0, 1 + BAND * BANDS, LEFT, RIGHT)
    for band in range(BANDS):
        cells.append(_cell(band, strip(1 + band * BAND), BOTTOM + 40, (RIGHT - LEFT) / BANDS, 10))
    labels = [
        text(f"{1 + 0.1 * tenth:.1f}", strip(1 + 0.1 * tenth), BOTTOM + 62, "middle", "tick") for tenth in range(7)
    ]
    title = "Time saved by distributed speculation: min(plain, SI at its best k) / DSI"
    grids = x_grid(x, TOP, BOTTOM, "acceptance rate a"), y_grid(y, LEFT, RIGHT, "c = d / t")
    style = element("style", Markup((FILES / "style.css").read_text(encoding="utf-8")))
    parts = style, element("title", title), *grids, *cells, *labels, text(title, WIDTH / 2, 13, "middle", "tick")
    box = f"0 0 {WIDTH} {BOTTOM + 68}"
    return element("svg", *parts, xmlns="http://www.w3.org/2000/svg", viewBox=box, role="img", font_family="sans-serif")


def _cell(band: int, x: float, y: float, width: float, height: float) -> Markup:
    return element("rect", x=x, y=y, width=width, height=height, fill="#2563be", fill_opacity=band / (BANDS - 1))
