"""Charts as pure functions from numbers to SVG. Every mark carries its number as a tooltip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from eval.report.html.svg import WIDTH, Axis, axis, cut, element, hue, picture, text, x_grid, y_grid

ROW = 19.0  # height of one row
TOP, BOTTOM, RIGHT = 10.0, 34.0, 14.0
LABELS = 118.0  # room for the names of rows
WIDE_LABELS = 158.0  # and of rows with their drafters


@dataclass(frozen=True)
class Mark:
    """One row of `intervals`: a value with its interval, None where there is none, and what to compare it with."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    series: int = 0
    best: float | None = None  # drawn as an open diamond, joined to the value
    note: str = ""


def intervals(
    marks: Sequence[Mark], title: str, unit: str, form: Callable[[float], str], reference: float | None = None
) -> Markup:
    """Names at the left, values as dots, intervals as lines; `reference` is a vertical line."""
    known = [
        value
        for mark in marks
        for value in (mark.value, mark.low, mark.high, mark.best, reference)
        if value is not None
    ]
    scale = axis(known, LABELS, WIDTH - RIGHT, zero=True, form=form)
    bottom = TOP + ROW * len(marks)
    parts = [x_grid(scale, TOP, bottom, unit)]
    if reference is not None:
        parts.append(element("line", x1=scale(reference), x2=scale(reference), y1=TOP, y2=bottom, class_="reference"))
    parts += [_mark(mark, scale, TOP + ROW * (number + 0.5), form) for number, mark in enumerate(marks)]
    return picture(bottom + BOTTOM, title, *parts)


def _mark(mark: Mark, scale: Axis, y: float, form: Callable[[float], str]) -> Markup:
    parts = [text(cut(mark.label, LABELS - 8), LABELS - 8, y + 3.5, "end")]
    said = mark.label
    if mark.low is not None and mark.high is not None:
        parts.append(element("line", x1=scale(mark.low), x2=scale(mark.high), y1=y, y2=y, class_="whisker"))
    if mark.best is not None:
        x = scale(mark.best)
        diamond = f"M{x:.1f} {y - 4.5:.1f}l4.5 4.5l-4.5 4.5l-4.5 -4.5z"
        parts.append(element("path", d=diamond, class_="diamond"))
    if mark.value is None and mark.best is None:
        parts.append(text("not measured", LABELS + 4, y + 3.5, class_="tick"))
    elif mark.value is not None:
        said += f": {form(mark.value)}"
        if mark.best is not None:
            parts.append(element("line", x1=scale(mark.value), x2=scale(mark.best), y1=y, y2=y, class_="gap"))
        parts.append(element("circle", cx=scale(mark.value), cy=y, r=4, class_="dot"))
    if mark.low is not None and mark.high is not None:
        said += f" ({form(mark.low)} to {form(mark.high)})"
    return element("g", element("title", f"{said} {mark.note}".strip()), *parts, class_=hue(mark.series))


@dataclass(frozen=True)
class Point:
    """A point of a line, with its interval where there is one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """A series of `lines`."""

    name: str
    points: Sequence[Point]
    series: int = 0
    dots: bool = True


@dataclass(frozen=True)
class Scale:
    """How one axis of `lines` is made."""

    name: str
    form: Callable[[float], str] = "{:g}".format
    zero: bool = False
    top: float | None = None  # the axis ends there, whatever the values
    logarithmic: bool = False


def lines(
    series: Sequence[Line],
    title: str,
    x: Scale,
    y: Scale,
    *,
    vertical: tuple[float, str] | None = None,
    diagonal: bool = False,
    apart: float = 0.0,
) -> Markup:
    """Lines over two axes; `vertical` is a marked place (where, what), `diagonal` the line y = x.

    Lines stand `apart` units beside each other, so that equal ones and their intervals can be told from one another.
    """
    points = [point for line in series for point in line.points]
    ups = [value for point in points for value in (point.y, point.low, point.high) if value is not None]
    left, top, bottom = 42.0, 22.0, 188.0
    aside = apart * len(series)  # no mark on the axis itself
    across = _axis([point.x for point in points], x, left + aside, WIDTH - RIGHT - aside)
    up = _axis(ups, y, bottom, top)
    parts = [y_grid(up, left, WIDTH - RIGHT, y.name), x_grid(across, top, bottom, x.name)]
    if diagonal:
        ends = {"x1": across(across.low), "y1": up(across.low), "x2": across(across.high), "y2": up(across.high)}
        parts.append(element("line", **ends, class_="reference"))
    if vertical is not None:
        parts.append(_vertical(across(vertical[0]), vertical[1], top, bottom))
    parts += [_line(line, across, up, apart * (number - (len(series) - 1) / 2)) for number, line in enumerate(series)]
    return picture(bottom + BOTTOM, title, *parts)


def _axis(values: Sequence[float], how: Scale, start: float, end: float) -> Axis:
    if how.logarithmic:
        positive = [value for value in values if value > 0]
        low, high = min(positive), max(positive)
        low, high = (low, high) if high > low else (low / 2, high * 2)
        return Axis(low, high, start, end, logarithmic=True, form=how.form)
    if how.top is not None:
        return Axis(0.0, how.top, start, end, form=how.form)
    return axis(values, start, end, zero=how.zero, form=how.form)


def _vertical(x: float, what: str, top: float, bottom: float) -> Markup:
    right = x > WIDTH * 0.6
    place = text(what, x - 5 if right else x + 5, top + 9, "end" if right else "start", "marked")
    return element("g", element("line", x1=x, x2=x, y1=top, y2=bottom, class_="marker"), place)


def _line(line: Line, x: Axis, y: Axis, aside: float) -> Markup:
    path = " ".join(f"{x(point.x) + aside:.1f},{y(point.y):.1f}" for point in line.points)
    parts = [element("polyline", points=path, class_="curve")]
    for point in line.points:
        place, said = x(point.x) + aside, f"{line.name}: {y.form(point.y)} at {x.form(point.x)}"
        if point.low is not None and point.high is not None:
            said += f" ({y.form(point.low)} to {y.form(point.high)})"
            ends = {"y1": y(point.low), "y2": y(point.high)}
            parts.append(element("line", x1=place, x2=place, **ends, class_="whisker"))
        if line.dots:
            parts.append(element("circle", element("title", said), cx=place, cy=y(point.y), r=3.5, class_="dot"))
    return element("g", *parts, class_=hue(line.series))


@dataclass(frozen=True)
class Bar:
    """One row of `bars`: its parts from left to right, (series, value, what)."""

    label: str
    parts: Sequence[tuple[int, float, str]]


def bars(rows: Sequence[Bar], title: str, unit: str, form: Callable[[float], str]) -> Markup:
    """Stacked horizontal bars."""
    scale = axis([sum(part[1] for part in row.parts) for row in rows], WIDE_LABELS, WIDTH - RIGHT, zero=True)
    bottom = TOP + ROW * len(rows)
    drawn = [x_grid(scale, TOP, bottom, unit)]
    for number, row in enumerate(rows):
        y, begin = TOP + ROW * number, 0.0
        drawn.append(text(cut(row.label, WIDE_LABELS - 8), WIDE_LABELS - 8, y + ROW / 2 + 3.5, "end"))
        for series, value, what in row.parts:
            drawn.append(
                _box(scale(begin), scale(begin + value), y + 3.5, series, f"{row.label}, {what}: {form(value)}")
            )
            begin += value
    return picture(bottom + BOTTOM, title, *drawn)


@dataclass(frozen=True)
class Lane:
    """One row of `timeline`: spans (begin, end, series, what)."""

    label: str
    spans: Sequence[tuple[float, float, int, str]]


def timeline(lanes: Sequence[Lane], title: str, unit: str, end: float) -> Markup:
    """What every worker did when. `end` of the axis, so that several timelines can be compared."""
    scale = Axis(0.0, end, 74.0, WIDTH - RIGHT)
    bottom = TOP + ROW * len(lanes)
    drawn = [x_grid(scale, TOP, bottom, unit)]
    for number, lane in enumerate(lanes):
        y = TOP + ROW * number
        drawn.append(text(cut(lane.label, 66), 68, y + ROW / 2 + 3.5, "end"))
        drawn += [_box(scale(begin), scale(stop), y + 3.5, series, what) for begin, stop, series, what in lane.spans]
    return picture(bottom + BOTTOM, title, *drawn)


def _box(left: float, right: float, y: float, series: int, what: str) -> Markup:
    width = max(0.6, right - left - 0.8)  # the gap keeps neighbours apart
    return element(
        "rect", element("title", what), x=left, y=y, width=width, height=ROW - 7, rx=1.5, class_=f"box {hue(series)}"
    )
