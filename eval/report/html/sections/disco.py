"""The stop classifier: its accuracy, its calibration, and what policies gain by it."""

from __future__ import annotations

from collections.abc import Sequence

from eval.report.html.charts import Line, Mark, Point, Scale, intervals, lines
from eval.report.html.parts import Figure, HtmlTable, Missing, Part, Section, TableCell, number, words
from eval.report.html.svg import two
from eval.report.sources import Calibration, Disco, Replay
from eval.stop.policy_comparison import ORACLE

ACCEPTED = "accepted"  # the classifier's output for the draft at hand


def disco(found: Disco | None, command: str) -> Part:
    """Every policy beside the oracle, ROC and calibration."""
    title = "Stop policies on held-out prompts, and the classifier behind DISCO"
    if found is None:
        return Missing("disco", title, "no classifier was trained", [command, "make report"])
    return Section(
        "disco",
        title,
        f"Policies replayed on the same drafts (sampler {found['sampler']}): the dot is a policy's speed by costs, the diamond the "
        "oracle's. ROC: does the classifier know which draft will be accepted; the further above the dashed line, the better. "
        "Calibration: on the dashed line a predicted probability means what it says, which the cost-aware rule relies on.",
        figures=[*map(_replayed, found["replayed"]), *_quality(found["calibration"])],
        tables=[_policies(found["replayed"]), _calibration(found["calibration"])],
    )


def _replayed(item: Replay) -> Figure:
    best = next((row.speed for row in item["rows"] if row.policy == ORACLE), None)
    rows = sorted((row for row in item["rows"] if row.policy != ORACLE), key=lambda row: -row.speed)
    marks = [
        Mark(row.policy, row.speed, best=best, note=f"{row.tokens_per_forward:.2f} tokens/forward") for row in rows
    ]
    heading = f"{item['suite']}, T = {item['temperature']:g}"
    return Figure(heading, intervals(marks, heading, "speed-up over plain decoding, by costs", two, 1.0))


def _quality(items: Sequence[Calibration]) -> list[Figure]:
    figures = []
    for item in items:
        if item["output"] != ACCEPTED:
            continue
        where = f"T = {item['temperature']:g}"
        if roc := item.get("roc"):
            heading = f"ROC, {where}" + (f": area {item['auc']:.3f}" if item.get("auc") is not None else "")
            curve = Line("classifier", [Point(at["false_positive"], at["true_positive"]) for at in roc], dots=False)
            figures.append(_square(curve, heading, "false positives", "true positives"))
        if bins := [at for at in item.get("bins") or [] if at["count"]]:
            heading = f"Calibration, {where}: error {item['ece']:.3f}"
            points = Line("bin", [Point(at["predicted"], at["observed"]) for at in bins])
            figures.append(_square(points, heading, "predicted acceptance", "observed"))
    return figures


def _square(line: Line, heading: str, x: str, y: str) -> Figure:
    return Figure(heading, lines([line], heading, Scale(x, two, top=1.0), Scale(y, two, top=1.0), diagonal=True))


def _policies(items: Sequence[Replay]) -> HtmlTable:
    columns = (
        "suite", "T", "policy", "speed by costs", "tokens/forward", "drafts/round", "in vain", "gap to oracle closed",
    )  # fmt: skip
    cells: list[Sequence[TableCell]] = [
        [
            words(item["suite"]),
            number(item["temperature"], "{:g}"),
            words(row.policy),
            number(row.speed, "{:.3f}\u00d7"),
            number(row.tokens_per_forward),
            number(row.drafted_per_round),
            _percent(row.wasted),
            _percent(row.gap_closed),
        ]
        for item in items
        for row in item["rows"]
    ]
    caption = "Gap closed: of the way from the tuned static length to the oracle. Laws known: the cost-aware rule told the true chances."
    return HtmlTable(columns, cells, caption, folded="All policies as a table")


def _percent(share: float | None) -> TableCell:
    return number(None if share is None else 100 * share, "{:.0f} %")


def _calibration(items: Sequence[Calibration]) -> HtmlTable:
    rows = [
        [
            number(item["temperature"], "{:g}"),
            words(item["output"]),
            number(item["drafts"], "{:,}"),
            number(item["ece"], "{:.3f}"),
            number(item.get("auc"), "{:.3f}"),
        ]
        for item in items
    ]
    columns = ("T", "output", "drafts", "calibration error", "area under ROC")
    return HtmlTable(columns, rows, folded="Quality of the classifier as a table")
