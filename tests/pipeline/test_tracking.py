"""Reports in W&B, offline: the page's tables and charts, the folder by reference, nothing of the machine."""

import json
from pathlib import Path

import pytest
import wandb

from drafters.errors import DraftersError
from eval.report.sources import Further
from pipeline.tracking import PRIVATE, log_report, main
from tests.eval.report.conftest import small


@pytest.fixture(scope="module")
def report():
    return small()


@pytest.fixture(scope="module")
def logged(report, tmp_path_factory) -> Path:
    """The run's folder."""
    runs = tmp_path_factory.mktemp("runs")
    folder = runs / "eval" / "0123abcd"
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_text("not to be copied")
    found = log_report(report, Further(), folder, mode="offline", project="p", runs=runs)
    assert found is not None
    wandb.teardown()  # its service writes the last bytes when it ends
    return found.parent


def test_tables_and_charts_are_there(logged, report):
    files = {path.relative_to(logged / "files").as_posix() for path in (logged / "files").rglob("*") if path.is_file()}
    for name in (
        "media/table/rows",
        "media/table/results/table",
        "media/html/samplers/chart0",
        "media/html/report_html",
    ):
        assert any(file.startswith(name) for file in files), name
    (rows,) = (logged / "files/media/table").glob("rows*.json")
    table = json.loads(rows.read_text())
    assert (
        dict(zip(table["columns"], table["data"][1], strict=True))["acceptance_rate"] == report.rows[1].acceptance_rate
    )


def test_the_folder_is_named_and_not_copied(logged):
    (run,) = logged.glob("*.wandb")
    assert (logged.parents[1] / "eval" / "0123abcd").as_uri().encode() in run.read_bytes()
    assert not any(b"not to be copied" in path.read_bytes() for path in logged.parent.rglob("*") if path.is_file())


def test_the_machine_is_not_described(logged):
    assert PRIVATE["x_disable_machine_info"]
    assert not list(logged.rglob("wandb-metadata.json"))


def test_disabled_makes_nothing(report, tmp_path):
    assert log_report(report, Further(), tmp_path, mode="disabled", project="p", runs=tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_command_line_names_what_is_missing(tmp_path):
    with pytest.raises(DraftersError, match="make eval"):
        main([str(tmp_path / "none")])
