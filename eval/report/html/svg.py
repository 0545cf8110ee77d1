"""The pieces that charts are drawn of: escaped markup, axes, ticks.

Charts are 360 units wide, the width of a phone, so that their text is as large there as on a desk. Colours are classes of the
page's style sheet, which knows light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 360
SERIES = 6  # colours of the style sheet
LETTER = 6.4  # width of a character, on average, at the size of labels


def element(name: str, *children: str, **attributes: object) -> Markup:
    """An SVG element. Text is escaped, markup is not; `_` in attributes stands for `-`, a trailing one is dropped."""
    written = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    inner = Markup("").join(children)
    return Markup(f"<{name}{''.join(written)}>{inner}</{name}>")


def picture(height: float, title: str, *children: str) -> Markup:
    """The whole chart; `title` is what a screen reader says."""
    box = f"0 0 {WIDTH} {_short(height)}"
    return element("svg", *children, viewBox=box, role="img", aria_label=title, class_="chart")


def text(value: str, x: float, y: float, anchor: str = "start", class_: str = "label") -> Markup:
    """One line of text with its baseline at y."""
    return element("text", value, x=x, y=y, text_anchor=anchor, class_=class_)


def two(value: float) -> str:
    """At most two digits behind the point."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def cut(value: str, room: float) -> str:
    """The text, shortened to about `room` units."""
    most = max(4, int(room / LETTER))
    return value if len(value) <= most else f"{value[: most - 1]}\u2026"


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic scale from values to units of the chart, with round numbers on it."""

    low: float
    high: float
    start: float  # units of the chart at low
    end: float
    logarithmic: bool = False
    form: Callable[[float], str] = "{:g}".format

    def __call__(self, value: float) -> float:
        """Where a value lies; beyond the ends it is drawn at the end."""
        low, high, value = (self._bent(item) for item in (self.low, self.high, min(max(value, self.low), self.high)))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round numbers within the axis."""
        if self.logarithmic:
            return log_ticks(self.low, self.high)
        return ticks(self.low, self.high, about)

    def _bent(self, value: float) -> float:
        return math.log(value) if self.logarithmic else value


def axis(
    values: Sequence[float],
    start: float,
    end: float,
    *,
    zero: bool = False,
    form: Callable[[float], str] = "{:g}".format,
) -> Axis:
    """A linear axis around the values, from round number to round number; with `zero`, from 0."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    low = min(0.0, low) if zero else low
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # nearer than rounding leaves a step between them
        high = low + (abs(low) or 1.0)
    step = _step(low, high, 5)
    return Axis(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, start, end, form=form)


def ticks(low: float, high: float, about: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from low to high."""
    step = _step(low, high, about)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within [low, high]; powers alone where those are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    inside = [value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
    return inside if len(inside) <= 6 else [value for value in inside if math.log10(value).is_integer()]


def x_grid(scale: Axis, top: float, bottom: float, name: str) -> Markup:
    """Vertical lines with their numbers below, and the axis' name."""
    parts = []
    for value in scale.ticks():
        x = scale(value)
        parts.append(element("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
        parts.append(text(scale.form(value), x, bottom + 13, "middle", "tick"))
    parts.append(text(name, (scale.start + scale.end) / 2, bottom + 28, "middle", "axis"))
    return Markup("").join(parts)


def y_grid(scale: Axis, left: float, right: float, name: str) -> Markup:
    """Horizontal lines with their numbers at the left; the axis' name stands above them."""
    parts = []
    for value in scale.ticks():
        y = scale(value)
        parts.append(element("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(text(scale.form(value), left - 5, y + 3.5, "end", "tick"))
    parts.append(text(name, 2, scale.end - 9, class_="axis"))
    return Markup("").join(parts)


def hue(series: int) -> str:
    """The class of a series' colour."""
    return f"s{series % SERIES}"


def _step(low: float, high: float, about: int) -> float:
    rough = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(digit for digit in (1, 2, 5, 10) if digit * power >= rough * (1 - 1e-9))


def _short(value: object) -> str:
    """Coordinates with two digits: a tenth of the file's size."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
