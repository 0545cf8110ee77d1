"""The report's schema: what readers rely on is there, in order, as numbers or null."""

import csv
import io
import json

import pytest

from eval.report.write import COST_FIELDS, HEAD_FIELDS, ROW_FIELDS, assemble, to_csv, to_json

ROW = dict.fromkeys(reversed(ROW_FIELDS), 1.5) | {"sampler": "tli", "stop": None, "verified": 4}
HEAD = {
    "device": "cpu", "dtype": "fp32", "pair": "p", "vocabulary": 9, "kept": 3, "coverage": 0.5,
    "costs": dict.fromkeys(COST_FIELDS, 0.1),
}  # fmt: skip


def test_round_trip():
    report = assemble(HEAD, [ROW], {"threads": 2})
    assert json.loads(to_json(report)) == report
    assert tuple(report)[: len(HEAD_FIELDS)] == HEAD_FIELDS
    assert tuple(report["rows"][0])[: len(ROW_FIELDS)] == ROW_FIELDS
    assert report["schema"] == 1
    assert report["threads"] == 2
    assert report["rows"][0]["verified"] == 4


def test_csv_holds_the_same_rows_and_null_is_empty():
    (row,) = csv.DictReader(io.StringIO(to_csv(assemble(HEAD, [ROW], {})).decode()))
    assert row["stop"] == ""
    assert row["tokens_per_second"] == "1.5"
    assert list(row)[: len(ROW_FIELDS)] == list(ROW_FIELDS)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="JSON"):
        to_json(assemble(HEAD, [ROW | {"acceptance_rate": value}], {}))


@pytest.mark.parametrize("field", ["coverage", "costs"])
def test_a_missing_field_is_named(field):
    with pytest.raises((ValueError, KeyError), match=field):
        assemble({name: value for name, value in HEAD.items() if name != field}, [ROW], {})
    with pytest.raises(ValueError, match="acceptance_rate_low"):
        assemble(HEAD, [{name: value for name, value in ROW.items() if name != "acceptance_rate_low"}], {})
