"""The text view: who wrote a token is seen and said, what a token holds is shown and never runs, colours stay apart."""

import re
from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from eval.report.html import page
from eval.report.html.page import FILES, render
from eval.report.html.parts import Missing
from eval.report.html.sections import texts
from eval.report.html.sections.texts import said, visible
from tests.eval.report.html.test_page import Reader

# What people with one kind of cones see of linear RGB (Machado et al. 2009, severity 1).
VISION = {
    "all cones": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # of linear sRGB, D65
KINDS = ("accepted", "correction", "bonus", "plain")


@pytest.fixture
def shown(report) -> Reader:
    return Reader(render(report).decode())


def tokens(shown: Reader) -> list[dict]:
    return [attributes for attributes in shown.named("span") if "tabindex" in attributes]


def test_every_token_has_its_origin_its_frame_and_its_words(shown, report):
    marks = [token for answer in report.texts.answers for token in answer.tokens]
    found = tokens(shown)
    assert [tag["class"].split()[1:] for tag in found] == [
        [mark.origin, *["boxed"] * (not mark.sayable)] for mark in marks
    ]
    assert [tag["aria-label"] for tag in found] == [said(mark) for mark in marks]
    assert all(tag["role"] == "img" for tag in found)  # a role that may have a name
    groups = [tag["aria-label"] for tag in shown.named("div") if tag.get("role") == "group"]
    assert groups == ["one, T = 0, token by token", "two, T = 1, token by token"]


def test_words_of_a_token(report):
    first, second = report.texts.answers
    assert said(first.tokens[0]).splitlines() == [
        "\u201creturn\u201d, id 1", "accepted draft", "p 0.500", "q: unpruned 0.250, pruned 0.500, with tail < 0.001",
    ]  # fmt: skip
    assert said(first.tokens[1]).splitlines()[1:3] == [
        "correction, where a draft was rejected", "rejected draft: \u201c</span><script>\u201d, id 9, p 0.010, q 0.900",
    ]  # fmt: skip
    assert said(first.tokens[2]).splitlines()[0] == "part of a character, bytes e2, id 3"
    assert said(first.tokens[4]).splitlines()[0] == "\u201c\u2603\u201d, bytes 83, id 5"
    assert said(first.tokens[5]).splitlines()[2:] == [
        "p 0.500",
        "no row in the pruned drafter",
    ]  # of q nothing is known
    assert "\u201c\u21b5\u21e5\u201d, id 7" in said(second.tokens[0])
    assert "q: unpruned 0.250, pruned 0, " in said(second.tokens[0])
    assert "rejected draft: \u201c\u27e8U+0000\u27e9\u201d, id 11, p unknown, q unknown" in said(second.tokens[1])


def test_the_legend_and_the_table_count(shown):
    for text in ("accepted draft: 3", "correction, where a draft was rejected: 2", "no row in the pruned drafter: 1"):
        assert sum(text in item for item in shown.text["li"]) >= 1
    cells = shown.text["td"]
    row = cells[cells.index("two") - 1 :][:11]
    assert row == ["1", "two", "2", "2", "0", "2", "0", "1", "50 %", "0.250", "0.000"]


def test_nothing_that_a_token_holds_is_markup(shown, report):
    markup = render(report).decode()
    assert len(shown.named("script")) == 1
    assert not shown.named("b") or all("<b>&" not in item for item in shown.text["b"])
    assert "</script><script>alert" not in markup
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in markup
    whole = "".join(shown.text["p"])  # for those who hear the text
    assert "</script><script>alert(1)</script>" in whole
    assert "return <b>&\u25af\u25af\u2603\u27e8U+202E\u27e9evil" in whole


def test_characters_without_a_look_are_shown():
    assert visible("a\n\tb") == "a\u21b5\n\u21e5\tb"
    hidden = "\x00\r\x1b\x7f\x85\xad\u061c\u200b\u200d\u202a\u202e\u2028\u2066\ufeff\ue000\ud800\U000e0001"
    assert visible(hidden) == "".join(f"\u27e8U+{ord(letter):04X}\u27e9" for letter in hidden)
    assert visible("\u05d0 e\u0301 \u2603 \U0001f600 <b>") == "\u05d0 e\u0301 \u2603 \U0001f600 <b>"
    assert visible("\\n") == "\\n"


def test_a_report_without_answers_says_how_to_get_them(report):
    part = texts.texts(replace(report, texts=None))
    assert isinstance(part, Missing)
    assert part.commands == ['make eval ARGS="pair=pycode suite=pycode eval.texts=2"']
    assert isinstance(texts.texts(replace(report, texts=replace(report.texts, answers=()))), Missing)


def test_as_many_answers_as_fit_are_shown_and_the_rest_is_told(report):
    answer = report.texts.answers[0]
    worst = replace(answer.tokens[1], text="\u2603" * 40)
    long = replace(answer, tokens=128 * (worst,))
    many = replace(report, texts=replace(report.texts, answers=48 * (long,)))
    made = render(many)
    assert len(made) < page.MOST_BYTES
    found = Reader(made.decode())
    assert len(tokens(found)) == 18 * 128
    assert "30 further answers stand in report.json." in found.text["p"]


def colours(dark: bool) -> dict[str, str]:
    """Variable -> #rrggbb of a scheme."""
    styles = "".join((FILES / name).read_text(encoding="utf-8") for name in page.STYLES)
    found = dict[str, str]()
    for block, own in re.findall(r"(@media \(prefers-color-scheme: dark\) \{\s*)?:root \{([^}]*)\}", styles):
        if dark or not block:
            found |= re.findall(r"--([\w-]+): (#[0-9a-f]{6})", own)
    return found


def linear(colour: str) -> np.ndarray:
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB."""
    x = XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(1)
    x = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * x[1] - 16, 500 * (x[0] - x[1]), 200 * (x[1] - x[2])])


@pytest.mark.parametrize("dark", [False, True])
def test_colours_stay_apart_for_every_vision_and_text_is_readable(dark):
    """Distances of 15 in CIELAB, where 2.3 can just be seen; contrast as WCAG asks of text."""
    known = colours(dark)
    for name, matrix in VISION.items():
        seen = {kind: lab(np.array(matrix) @ linear(known[kind])) for kind in KINDS}
        for first, second in combinations(KINDS, 2):
            assert np.linalg.norm(seen[first] - seen[second]) >= 15, (name, first, second)
    for kind in KINDS:
        low, high = sorted(float((XYZ @ linear(known[name]))[1]) + 0.05 for name in (kind, "ink"))
        assert high / low >= 4.5, kind


def test_origins_differ_without_colours():
    """Where colours are not shown, lines below the tokens tell them apart."""
    style = (FILES / "tokens.css").read_text(encoding="utf-8")
    assert "solid transparent" not in style
    below = {kind: re.findall(rf"\.{kind} \{{[^}}]*border-bottom: 3px (\w+)", style) for kind in KINDS}
    assert Counter(map(tuple, below.values())) == Counter([(), ("solid",), ("dotted",), ("dashed",)])
