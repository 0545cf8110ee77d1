"""What other commands measure: the kept-size curve, the timeline of distributed decoding."""

from __future__ import annotations

from collections.abc import Sequence

from eval.report.html.charts import Lane, Line, Point, Scale, lines, timeline
from eval.report.html.parts import Figure, HtmlTable, Missing, Part, Section, number, spread, words
from eval.report.html.svg import two
from eval.report.sources import Curve, CurvePoint, Timeline
from eval.run.metrics import Estimate

RENDER = "make report"
KINDS = {"draft": 0, "verify": 2, "stale": 5}


def _count(value: float) -> str:
    return f"{value / 1e3:g}k" if value >= 1000 and value % 100 == 0 else f"{value:,.0f}"


def kept_size(curve: Curve | None, command: str) -> Part:
    """Acceptance by the number of kept tokens, one line per variant, the chosen size marked."""
    title = "How many tokens to keep"
    if curve is None or not curve["points"]:
        return Missing("curve", title, "acceptance by kept vocabulary was not measured", [command, RENDER])
    variants = list(dict.fromkeys(point["variant"] for point in curve["points"]))
    knee = curve.get("knee")
    figures = []
    for temperature in sorted({point["temperature"] for point in curve["points"]}):
        here = [point for point in curve["points"] if point["temperature"] == temperature]
        series = [_variant(here, name, variants.index(name)) for name in variants]
        heading = f"Acceptance by kept tokens, T = {temperature:g}"
        marked = None if knee is None else (float(knee["kept"]), f"{knee['kept']:,} kept")
        across = Scale("tokens kept (logarithmic)", _count, logarithmic=True)
        drawn = lines(
            [line for line in series if line.points], heading, across, Scale("acceptance rate", two), vertical=marked
        )
        figures.append(Figure(heading, drawn))
    reason = "" if knee is None else f" The marked size of {knee['kept']:,} tokens is the chosen one: {knee['reason']}."
    return Section(
        "curve",
        title,
        f"A smaller vocabulary makes the drafter cheaper and its drafts worse. Look where the lines begin to fall.{reason}",
        legend=list(enumerate(variants)),
        figures=figures,
        tables=[_curve_table(curve["points"])],
    )


def _variant(points: Sequence[CurvePoint], name: str, series: int) -> Line:
    own = sorted((point for point in points if point["variant"] == name), key=lambda point: point["kept"])
    return Line(name, [Point(point["kept"], *_rate(point)) for point in own], series)


def _rate(point: CurvePoint) -> tuple[float, float | None, float | None]:
    return point["acceptance_rate"], point.get("acceptance_rate_low"), point.get("acceptance_rate_high")


def _curve_table(points: Sequence[CurvePoint]) -> HtmlTable:
    rows = [
        [
            number(point["temperature"], "{:g}"),
            words(point["variant"]),
            number(point["kept"], "{:,}"),
            spread(Estimate(*_rate(point)), 3),
            number(point.get("speedup"), "{:.2f}\u00d7"),
        ]
        for point in points
    ]
    return HtmlTable(("T", "variant", "kept", "acceptance rate", "speed-up"), rows, folded="The same as a table")


def dsi(found: Timeline | None) -> Part:
    """Who computed what when, one timeline per run on the same axis."""
    title = "Distributed speculative inference: who works when"
    spans = [span for run in (found["runs"] if found else ()) for lane in run["lanes"] for span in lane["spans"]]
    if found is None or not spans:
        return Missing("dsi", title, "no timeline was recorded", ["make dsi-sim", RENDER])
    end = max(span["end"] for span in spans)
    figures = []
    for run in found["runs"]:
        last = max((span["end"] for lane in run["lanes"] for span in lane["spans"]), default=0.0)
        heading = f"{run['name']}: {run['tokens']:,} tokens in {last:,.1f} {found['unit']}"
        lanes = [
            Lane(
                lane["label"],
                [
                    (
                        span["begin"],
                        span["end"],
                        KINDS.get(span["kind"], 4),
                        f"{span['kind']} {span['begin']:g} to {span['end']:g}",
                    )
                    for span in lane["spans"]
                ],
            )
            for lane in run["lanes"]
        ]
        figures.append(Figure(heading, timeline(lanes, heading, f"time ({found['unit']})", end)))
    return Section(
        "dsi",
        title,
        "All timelines share one axis: the one that ends first is the fastest. Grey is work for a branch that was rejected "
        "meanwhile.",
        legend=[(KINDS["draft"], "draft"), (KINDS["verify"], "verify"), (KINDS["stale"], "rejected meanwhile")],
        figures=figures,
    )
