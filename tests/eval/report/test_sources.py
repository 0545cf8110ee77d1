"""What others wrote is checked before it is shown; an error names the file, the field and the command."""

import copy
import json
import os

import pytest

from eval.report.shapes import Each, Maybe, ReportError, check
from eval.report.sources import further, newest_report, read_report


def test_everything_is_found(runs, report):
    found = further(runs, report["code"])
    assert found.certificate["code"] == report["code"]
    assert found.curve["knee"]["kept"] == 25
    assert found.disco["calibration"][0]["auc"] == 0.82
    assert found.dsi["runs"][0]["tokens"] == 9
    assert read_report(newest_report(runs)) == json.loads(json.dumps(report))


def test_nothing_is_found_where_nothing_is(tmp_path):
    assert further(tmp_path, None).curve is None
    with pytest.raises(ReportError, match="make eval"):
        newest_report(tmp_path)


def test_the_newest_counts_and_unfinished_ones_do_not(runs):
    first = newest_report(runs)
    for name, age in (("k9", 100), (".k10.partial", 200), ("k8", -100)):
        path = runs / "eval" / name / "report.json"
        path.parent.mkdir()
        path.write_text("{}")
        when = first.stat().st_mtime + age
        os.utime(path, (when, when))
    assert newest_report(runs) == runs / "eval/k9/report.json"


def test_the_certificate_of_this_code_goes_before_newer_ones(runs, report):
    path = runs / "lossless/k2/certificate.json"
    other = runs / "lossless/k7/certificate.json"
    other.parent.mkdir()
    other.write_text(path.read_text().replace("c" * 64, "d" * 64))
    os.utime(other, (2e9, 2e9))
    assert further(runs, report["code"]).certificate["code"] == "c" * 64
    assert further(runs, "e" * 64).certificate["code"] == "d" * 64


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.pop("pair"), "pair: expected a text, got nothing"),
        (lambda r: r.update(schema=2), "schema: expected at most 1, got 2"),
        (lambda r: r.update(schema=True), "schema: expected a whole number, got True"),
        (lambda r: r.update(coverage=float("nan")), "coverage: expected a number, got nan"),
        (lambda r: r["rows"][3].update(tokens="9"), r"rows\[3\]: tokens: expected a whole number, got '9'"),
        (lambda r: r["rows"][3].update(acceptance_rate=float("inf")), r"rows\[3\]: acceptance_rate: expected a number, got inf"),
        (lambda r: r.update(rows={}), "rows: expected a list"),
        (lambda r: r["costs"].pop("t_n"), "costs: t_n: expected a list, got nothing"),
        (lambda r: r["definitions"].update(x=1), "definitions: x: expected a text, got 1"),
        (lambda r: r["rounds"][0]["positions"][0].pop("verified"), r"rounds\[0\]: positions\[0\]: verified"),
    ],
)  # fmt: skip
def test_a_report_with_a_wrong_field(report, tmp_path, change, said):
    made = copy.deepcopy(report)
    change(made)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(made))
    with pytest.raises(ReportError, match=said) as caught:
        read_report(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'"x"'])
def test_what_is_no_json_object(tmp_path, content):
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(ReportError, match=r"report.json: .*make eval"):
        read_report(path)


@pytest.mark.parametrize("name", ["sweep/k3/curve.json", "train-disco/k4/report.json", "dsi/k5/timeline.json"])
def test_a_broken_measurement_names_its_file(runs, name):
    (runs / name).write_text('{"schema": 1}')
    with pytest.raises(ReportError, match=name):
        further(runs, None)


def test_shapes():
    check({"a": [1, 2.5], "b": {"x": "y"}}, {"a": [float], "b": Each(str), "c": Maybe(int)}, "file", "make it")
    with pytest.raises(
        ReportError, match="file: b: x: expected true or false, got 1; make the file again with: make it"
    ):
        check({"b": {"x": 1}}, {"b": Each(bool)}, "file", "make it")
