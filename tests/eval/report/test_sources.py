"""What others wrote is checked before it is shown; an error names the file, the field and the command."""

import json
import os

import pytest

from eval.report.schema import to_json
from eval.report.sources import ReportError, further, newest_report, read_report


def test_everything_is_found(runs, report):
    found = further(runs, report.code)
    assert found.certificate["code"] == report.code
    assert found.curve["knee"]["kept"] == 25
    assert found.disco["calibration"][0]["auc"] == 0.82
    assert found.dsi["runs"][0]["tokens"] == 9
    assert read_report(newest_report(runs)) == report


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
    assert further(runs, report.code).certificate["code"] == "c" * 64
    assert further(runs, "e" * 64).certificate["code"] == "d" * 64


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.pop("pair"), "pair: expected this field, got nothing"),
        (lambda r: r.update(schema=2), "schema: expected at most 1, got 2, as a newer version writes it: update this clone"),
        (lambda r: r.update(schema=True), "schema: expected a whole number, got True"),
        (lambda r: r.update(coverage=float("nan")), "coverage: expected a number, got nan"),
        (lambda r: r["rows"][3].update(tokens="9"), r"rows\[3\]: tokens: expected a whole number, got '9'"),
        (lambda r: r["rows"][3].update(acceptance_rate=float("inf")), r"rows\[3\]: acceptance_rate: expected a number, got inf"),
        (lambda r: r.update(rows={}), "rows: expected a list"),
        (lambda r: r["costs"].pop("t_n"), "costs: t_n: expected this field, got nothing"),
        (lambda r: r["definitions"].update(x=1), "definitions: x: expected a text, got 1"),
        (lambda r: r["rounds"][0]["positions"][0].pop("verified"), r"rounds\[0\]: positions\[0\]: verified"),
        (lambda r: r["rows"][2].update(acceptence=0.9), r"rows\[2\]: acceptence: expected no such field, got 0.9"),
        (lambda r: r.update(proved=True), "proved: expected no such field, got True"),
        (lambda r: r["rows"][0].update(tokens=-1), r"rows\[0\]: tokens: expected at least 0, got -1"),
        (lambda r: r["rows"][0].update(tokens=1.0), r"rows\[0\]: tokens: expected a whole number, got 1.0"),
        (lambda r: r["rows"][0].update(tokens=True), r"rows\[0\]: tokens: expected a whole number, got True"),
        (lambda r: r["rows"][1].update(acceptance_rate=1.5), r"rows\[1\]: acceptance_rate: expected at most 1, got 1.5"),
        (lambda r: r["rows"][1].update(temperature=None), r"rows\[1\]: temperature: expected a number, got None"),
        (lambda r: r["verdict"][0]["speedup"].update(low="1"), r"verdict\[0\]: speedup: low: expected a number, got '1'"),
        (lambda r: r["texts"]["answers"][0]["tokens"][1].update(p=1.1), r"answers\[0\]: tokens\[1\]: p: expected at most 1, got 1.1"),
        (lambda r: r["texts"]["answers"][0]["tokens"][1]["q"].update(tail=-1.0), r"q: tail: expected at least 0, got -1.0"),
        (lambda r: r["texts"]["answers"][1]["tokens"][0].update(origin="target"), r"origin: .*'bonus' or 'plain'"),
        (lambda r: r["texts"]["answers"][1]["tokens"][0].update(text="x" * 257), r"text: .*at most 256 characters"),
        (lambda r: r["texts"]["answers"][1]["tokens"][0].update(raw='"'), r"raw: expected a text of the form"),
        (lambda r: r["texts"]["answers"][1].update(tokens=129 * r["texts"]["answers"][1]["tokens"]), r"tokens: .*at most 128 items"),
        (lambda r: r["texts"].update(answers=49 * r["texts"]["answers"][:1]), r"texts: answers: .*at most 48 items"),
        (lambda r: r.update(warps={"top_k": 0, "top_p": 1.0, "draft": {"top_p": 2.0}}), r"warps: draft: expected .*top_p must lie in"),
    ],
)  # fmt: skip
def test_a_report_with_a_wrong_field(report, tmp_path, change, said):
    made = json.loads(to_json(report))
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


def test_a_report_of_before_expectations_and_verdicts_is_read(report, tmp_path):
    old = json.loads(to_json(report))
    for name in (
        "verdict",
        "warnings",
        "overheads",
        "held_out",
        "held_out_said",
        "absent",
        "left_out",
        "selection",
        "texts",
    ):
        del old[name]
    for row in old["rows"]:
        for name in [
            name for name in row if name.startswith(("acceptance_gain", "tokens_per_forward", "text_", "race_"))
        ]:
            del row[name]
    path = tmp_path / "report.json"
    path.write_text(json.dumps(old))
    assert [row.tokens for row in read_report(path).rows] == [row.tokens for row in report.rows]
    assert read_report(path).verdict is None


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (
            "lossless/k2/certificate.json",
            lambda c: c["samplers"]["tli"].update(cells=1.5),
            "samplers: tli: cells: expected a whole",
        ),
        (
            "sweep/k3/curve.json",
            lambda c: c["points"][1].update(kept="9"),
            r"points\[1\]: kept: expected a whole number, got '9'",
        ),
        (
            "train-disco/k4/report.json",
            lambda c: c["calibration"][0]["roc"][0].pop("true_positive"),
            r"roc\[0\]: true_positive",
        ),
        ("dsi/k5/timeline.json", lambda c: c.update(schema=7), "schema: expected at most 1, got 7"),
    ],
)
def test_a_wrong_field_of_a_measurement_is_named_and_others_are_left_alone(runs, name, change, said):
    content = json.loads((runs / name).read_text())
    (runs / name).write_text(json.dumps(content | {"more": {"x": 1}}))
    further(runs, None)
    change(content)
    (runs / name).write_text(json.dumps(content))
    with pytest.raises(ReportError, match=said):
        further(runs, None)
