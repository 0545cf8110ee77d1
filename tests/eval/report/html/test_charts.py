"""Charts put marks where the numbers are."""

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eval.report.html.charts import Bar, Lane, Line, Mark, Point, Scale, bars, intervals, lines, timeline
from eval.report.html.svg import Axis, axis, cut, element, log_ticks, ticks


def numbers(svg: ET.Element, horizontal: bool) -> list[tuple[float, float]]:
    """(value, place) of the tick labels of one axis."""
    found = []
    for item in svg.iter("text"):
        if item.get("class") == "tick" and (item.get("text-anchor") == "middle") == horizontal:
            place = float(item.get("x")) if horizontal else float(item.get("y")) - 3.5
            found.append((float(item.text), place))
    return found


def read_off(svg: ET.Element, place: float, horizontal: bool = True) -> float:
    """The value that a reader takes from the axis at a place."""
    (a, x), *_, (b, y) = numbers(svg, horizontal)
    return a + (place - x) / (y - x) * (b - a)


def circles(svg: ET.Element) -> list[ET.Element]:
    return list(svg.iter("circle"))


def test_dots_and_whiskers_stand_at_their_values():
    marks = [Mark("tli", 0.62, 0.55, 0.7), Mark("block", 0.71, best=0.9)]
    svg = ET.fromstring(intervals(marks, "t", "rate", "{:.2f}".format))
    assert [read_off(svg, float(dot.get("cx"))) for dot in circles(svg)] == pytest.approx([0.62, 0.71], abs=2e-3)
    (whisker,) = [line for line in svg.iter("line") if line.get("class") == "whisker"]
    assert [read_off(svg, float(whisker.get(end))) for end in ("x1", "x2")] == pytest.approx([0.55, 0.7], abs=2e-3)
    (diamond,) = svg.iter("path")
    assert read_off(svg, float(re.match(r"M([\d.]+)", diamond.get("d"))[1])) == pytest.approx(0.9, abs=2e-3)
    assert [title.text for title in svg.iter("title")] == ["tli: 0.62 (0.55 to 0.70)", "block: 0.71"]


def test_points_of_lines_stand_at_their_values():
    line = Line("tli", [Point(1, 0.9), Point(3, 0.4, 0.3, 0.5)])
    svg = ET.fromstring(lines([line], "t", Scale("x"), Scale("y", top=1.0)))
    dots = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in circles(svg)]
    assert [read_off(svg, x) for x, _ in dots] == pytest.approx([1, 3], abs=0.01)
    assert [read_off(svg, y, horizontal=False) for _, y in dots] == pytest.approx([0.9, 0.4], abs=5e-3)
    beside = ET.fromstring(lines([line, line], "t", Scale("x"), Scale("y", top=1.0), apart=4.0))
    places = [float(dot.get("cx")) for dot in circles(beside)]
    assert places[2] - places[0] == pytest.approx(4.0)


def test_bars_are_as_long_as_their_parts():
    svg = ET.fromstring(bars([Bar("a", [(0, 2.0, "x"), (1, 6.0, "y")])], "t", "ms", "{:.1f}".format))
    first, second = [(float(box.get("x")), float(box.get("width"))) for box in svg.iter("rect")]
    assert second[0] == pytest.approx(first[0] + first[1] + 0.8, abs=0.02)
    assert (second[1] + 0.8) / (first[1] + 0.8) == pytest.approx(3.0, abs=0.01)


def test_timelines_share_an_axis():
    lane = Lane("drafter", [(2.0, 4.0, 0, "draft")])
    short, long = (ET.fromstring(timeline([lane], "t", "ms", end)) for end in (4.0, 8.0))
    widths = [float(next(svg.iter("rect")).get("width")) + 0.8 for svg in (short, long)]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.02)


sane = st.floats(-1e6, 1e6, allow_nan=False).filter(lambda value: value == 0 or abs(value) > 1e-6)


@settings(max_examples=80, deadline=None)
@given(st.lists(sane, min_size=1, max_size=5))
@example([-1000000.0, -999999.9999999999])
def test_an_axis_holds_its_values_between_round_numbers(values):
    made = axis(values, 0.0, 100.0)
    slack = 1e-9 * max(map(abs, [made.low, made.high]))
    assert made.low - slack <= min(values) <= max(values) <= made.high + slack
    marked = made.ticks()
    assert 2 <= len(marked) <= 12
    assert all(-0.1 <= made(value) <= 100.1 for value in values)
    steps = [b - a for a, b in pairwise(marked)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-6)


def test_round_numbers():
    assert ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(0.3, 2.9, 5) == [1, 2]
    assert log_ticks(150, 17000) == [200, 500, 1000, 2000, 5000, 10000]
    assert log_ticks(1, 1e6) == [10.0**n for n in range(7)]


def test_a_logarithmic_axis_has_equal_steps_for_equal_factors():
    made = Axis(10, 1000, 0.0, 100.0, logarithmic=True)
    assert made(100) == pytest.approx(50.0)


def test_text_is_escaped_and_cut():
    assert element("text", "<b>&", class_="x") == '<text class="x">&lt;b&gt;&amp;</text>'
    assert element("g", title='"><script>') == '<g title="&#34;&gt;&lt;script&gt;"></g>'
    assert cut("short", 100) == "short"
    assert cut("a rather long name", 64) == "a rather \u2026"
