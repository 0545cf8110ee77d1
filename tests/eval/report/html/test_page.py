"""The page: everything it shows is in its sources, nothing it shows can run, and what is missing names its command."""

import base64
import hashlib
import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from eval.report.html import page
from eval.report.html.page import parts, render
from eval.report.html.parts import Missing, Section
from eval.report.schema import REPORT, to_json
from eval.report.sources import Further, ReportError, further
from eval.report.write_page import PageOptions, main
from tests.eval.report.conftest import EXPECTED

VOID = {"meta", "link"}
CLOSED = ("origin", "raw")  # texts of which the schema says what they may be
NASTY = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


class Reader(HTMLParser):
    """Tags with their attributes, text by tag; fails where tags do not close each other in order."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self.feed(markup)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def whole(runs, report) -> Reader:
    """The page with everything on it."""
    return Reader(render(report, further(runs, report.code)).decode())


def test_every_part_is_there_and_has_its_figures(runs, report):
    made = parts(report, further(runs, report.code))
    assert [part.id for part in made] == [
        "use", "samplers", "results", "texts", "positions", "lossless", "optimum", "papers", "cycle", "policies", "curve", "disco", "dsi",
    ]  # fmt: skip
    shown = {part.id: part for part in made if isinstance(part, Section)}
    assert len(shown) == len(made)
    counts = {name: len(part.figures) for name, part in shown.items()}
    assert counts == {
        "use": 0, "samplers": 6, "results": 0, "positions": 2, "lossless": 0, "optimum": 1, "cycle": 2, "policies": 2, "curve": 1,
        "disco": 3, "dsi": 1, "papers": 0, "texts": 0,
    }  # fmt: skip


def test_what_is_missing_names_the_command(report):
    rows = tuple(replace(row, optimal_acceptance=None) for row in report.rows if row.preset != "rrs_batch")
    bare = replace(report, rounds=None, verdict=None, rows=rows, texts=None)
    missing = {part.id: part.commands for part in parts(bare, Further()) if isinstance(part, Missing)}
    assert set(missing) == {
        "use", "texts", "positions", "lossless", "optimum", "papers", "cycle", "policies", "curve", "disco", "dsi",
    }  # fmt: skip
    assert missing["lossless"] == ["make lossless", "make report"]
    assert missing["curve"] == ['make sweep ARGS="pair=pycode"', "make report"]
    text = render(bare).decode()
    for commands in missing.values():
        assert all(html.escape(command, quote=True).replace("&quot;", "&#34;") in text for command in commands)


def test_nothing_is_loaded_and_only_its_own_code_may_run(whole):
    assert [tag["href"] for tag in whole.named("link")] == ["data:,"]
    assert all(str(tag["href"]).startswith("#") for tag in whole.named("a"))
    assert not [tag for tag, attributes in whole.tags if {"src", "srcset", "style", "xlink:href"} & set(attributes)]
    assert not [name for _, attributes in whole.tags for name in attributes if name.startswith("on")]
    ((script,), (style,)) = whole.text["script"], whole.text["style"]
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [tag["content"] for tag in whole.named("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    for kind, content in (("script", script), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_links_lead_to_parts(whole):
    there = {attributes["id"] for _, attributes in whole.tags if "id" in attributes}
    assert {str(tag["href"])[1:] for tag in whole.named("a")} == there


def planted(report):
    """JSON with markup in every text of it."""

    def plant(value):
        if isinstance(value, dict):
            return {name: item if name in CLOSED else plant(item) for name, item in value.items()}
        if isinstance(value, list):
            return [plant(item) for item in value]
        return value + NASTY if isinstance(value, str) else value

    return plant(report)


def planted_report(report):
    made = planted(json.loads(to_json(report)))
    for row in made["rows"]:  # plain decoding is told by its executor
        row["executor"] = row["executor"].removesuffix(NASTY)
    return REPORT.validate_json(json.dumps(made | {"definitions": {NASTY: NASTY}}))


def test_foreign_text_stays_text(runs, report):
    for path in runs.glob("[!e]*/*/*.json"):
        path.write_text(json.dumps(planted(json.loads(path.read_text()))))
    read = Reader(render(planted_report(report), further(runs, report.code)).decode())
    assert len(read.named("script")) == 1
    assert not read.named("img")
    assert any(NASTY in text for text in read.text["dd"])
    assert any(NASTY in text for text in read.text["td"])
    assert any(NASTY in text for text in read.text["title"])  # tooltips of charts


def test_the_table_says_what_the_report_says(whole, report):
    values = [float(tag["data-v"]) for tag in whole.named("td") if "data-v" in tag]
    for row in report.rows:
        for field in ("acceptance_rate", "block_efficiency", "tokens_per_second", "speedup_vs_autoregressive"):
            own = getattr(row, field)
            assert own is None or any(value == pytest.approx(own) for value in values), field
    cells = whole.text["td"]
    row = next(row for row in report.rows if row.preset == "tli")
    assert f"{row.acceptance_rate:.2f} ({row.acceptance_rate_low:.2f}\u2013{row.acceptance_rate_high:.2f})" in cells


def test_what_to_use_is_the_first_thing_on_the_page(whole, report):
    cells, notes = whole.text["td"], whole.text["p"]
    first, second = report.verdict
    for choice in (first, second):
        assert f"T = {choice.temperature:g}: {choice.reason}" in notes
    assert {"use", "next", "pruned drafter", "5 drafts", "1.31 (1.12\u20131.52)", "faster", "plain decoding"} <= set(
        cells
    )
    assert "cannot tell from plain decoding" in cells
    assert "the forwards should have taken 1.30 of the runs. measure again." in notes
    assert "1.31\u00d7" in whole.text["b"]
    assert "over plain decoding at T = 1, 95 %: 1.12 to 1.52" in whole.text["span"]
    assert "plain decoding is what to use at T = 0" in whole.text["span"]


def test_expected_figures_stand_first_and_measured_ones_beneath(whole, report):
    cells, columns = whole.text["td"], whole.text["button"]
    assert {"acceptance", "gain", "tokens per forward", "in words"} <= set(columns)
    row = next(row for row in report.rows if row.preset == "tli")
    assert "0.612 (0.600\u20130.624)" in cells
    assert "-0.050 (-0.060\u2013-0.040)" in cells
    assert any("Measured acceptance and block efficiency" in text for text in whole.text["summary"])
    assert f"{row.accepted:,}" in cells


def test_a_report_of_before_expectations_is_shown_as_it_was(report):
    rows = tuple(replace(row, **dict.fromkeys(EXPECTED)) for row in report.rows)
    old = replace(report, verdict=None, warnings=None, rows=rows)
    read = Reader(render(old).decode())
    assert {"acceptance rate", "block efficiency", "vs plain"} <= set(read.text["button"])
    assert "gain" not in read.text["button"]
    assert any("fastest at T = 0" in text for text in read.text["span"])


def test_certificates_of_other_code_are_called_so(report):
    certificate = {"schema": 1, "code": "d" * 64, "device": "cpu", "dtype": "float64", "samplers": {}}
    own = certificate | {"code": report.code}
    warned = "is NOT of the code that was measured here"
    assert warned in render(report, Further(certificate=certificate)).decode()
    assert warned not in render(report, Further(certificate=own)).decode()


def test_unproved_samplers_and_missed_bugs_are_seen(whole):
    toned = [attributes.get("class", "").split() for attributes in whole.named("td")]
    assert (
        sum("bad" in classes for classes in toned) == 4
    )  # the status and the count of rrs, one missed bug, and a slower row of the verdict
    assert {"NOT PROVED", "MISSED", "1 of 2"} <= set(whole.text["td"])


def test_a_page_beyond_two_megabytes_is_refused(report, monkeypatch):
    size = len(render(report))
    monkeypatch.setattr(page, "MOST_BYTES", size)
    render(report)
    monkeypatch.setattr(page, "MOST_BYTES", size - 1)
    with pytest.raises(ReportError, match=rf"expected at most {size - 1:,} bytes, got {size:,} for 8 rows"):
        render(report)


def test_a_report_of_four_hundred_rows_fits(report):
    def copies(items):
        return tuple(replace(item, stop=f"policy {number}") for number in range(55) for item in items if item.sampler)

    many = replace(report, rows=copies(report.rows), rounds=copies(report.rounds))
    assert len(many.rows) == 330
    assert len(render(many)) < page.MOST_BYTES


def test_empty_measurements_are_no_error(report):
    names = ["acceptance_rate", "acceptance_rate_low", "acceptance_rate_high", "tokens_per_second"]
    names += [f"speedup_vs_autoregressive{end}" for end in ("", "_low", "_high")]
    empty = replace(report, rows=tuple(replace(row, **dict.fromkeys(names)) for row in report.rows))
    text = Reader(render(empty).decode()).text["text"]
    assert "not measured" in text


def test_command_line(runs, capsys):
    assert main(PageOptions(runs=runs)) == 0
    made = runs / "report" / "k1" / "report.html"
    assert str(made) in capsys.readouterr().out
    assert re.search(
        r'id="curve">\s*<h2>How many tokens to keep</h2>\s*<p class="lead">', made.read_text(encoding="utf-8")
    )
    with pytest.raises(ReportError, match="make eval"):
        main(PageOptions(runs=runs / "none"))


def test_a_later_certificate_proves_earlier_rows(runs, report, capsys):
    for row in report.rows:
        assert row.lossless in (None, "exact")  # as the fixture has it; the certificate beside it disproves rrs
    main(PageOptions(runs=runs))
    text = (runs / "report" / "k1" / "report.html").read_text(encoding="utf-8")
    assert "not proven" in text
