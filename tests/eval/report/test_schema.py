"""The report's schema: what readers rely on is there, in order, as numbers or null; every definition belongs to a field."""

import csv
import dataclasses
import io
import json

import pytest

from eval.report.row import ReportRow, RowRounds
from eval.report.schema import Prices, Report, definitions, required, to_csv, to_json
from tests.eval.report.conftest import changed_row


def test_what_readers_rely_on_comes_first_and_is_there(report):
    written = json.loads(to_json(report))
    for kind, found in ((Report, written), (ReportRow, written["rows"][3]), (Prices, written["costs"])):
        assert tuple(found)[: len(required(kind))] == required(kind)
    assert required(Report)[:9] == (
        "schema", "device", "dtype", "pair", "vocabulary", "kept", "coverage", "costs", "rows",
    )  # fmt: skip
    assert written["schema"] == 1
    assert written["threads"] == 2


def test_csv_holds_the_same_rows_and_null_is_empty(report):
    first, second, *_ = csv.DictReader(io.StringIO(to_csv(report).decode()))
    assert first["stop"] == ""
    assert second["tokens_per_second"] == str(report.rows[1].tokens_per_second)
    assert list(first) == [field.name for field in dataclasses.fields(ReportRow)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(report, value):
    with pytest.raises(ValueError, match="JSON"):
        to_json(changed_row(report, 1, acceptance_rate=value))


def test_definitions_are_those_of_fields():
    for kind in (Report, Prices, ReportRow, RowRounds):
        found = definitions(kind)
        assert set(found) <= {field.name for field in dataclasses.fields(kind)}
        assert all(text and "\n" not in text for text in found.values())
    assert definitions(ReportRow)["gap_to_optimum"] == "optimal_acceptance - expected_acceptance"


def test_commands_name_the_pair_and_its_prompts(report):
    assert report.command("eval", "eval.positions=9") == 'make eval ARGS="pair=pycode suite=pycode eval.positions=9"'
    assert report.command("sweep") == 'make sweep ARGS="pair=pycode"'
    own = dataclasses.replace(report, pair="local")
    assert own.command("sweep") == 'make sweep ARGS="pair=local pair.target=DIR pair.drafter=DIR corpus.path=FILE"'
