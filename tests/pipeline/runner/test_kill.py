"""kill -9 at any instant: no manifest is ever beside incomplete files, and the next run ends with the same bytes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


def drive(toys: Any, mode: str, points: int, mutant: str | None = None) -> dict[str, Any]:
    order = {"root": str(toys.root), "package": toys.package, "settings": toys.settings, "mutant": mutant}
    order |= {"mode": mode, "points": points}
    command = [sys.executable, str(Path(__file__).with_name("kill_driver.py")), json.dumps(order)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env={"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_every_change_of_the_file_system(toys: Any) -> None:
    report = drive(toys, "events", points=10_000)
    assert report.pop("killed") > 40
    assert report == {"incomplete": [], "differing": 0, "failed": 0, "redone": 0}


@pytest.mark.slow("twenty runs and their repetitions, 3 s")
def test_random_instants(toys: Any) -> None:
    report = drive(toys, "random", points=20)
    assert report == {"killed": 20, "incomplete": [], "differing": 0, "failed": 0, "redone": 0}


def test_planted_bug_manifest_before_files_is_caught(toys: Any) -> None:
    report = drive(toys, "events", points=10_000, mutant="manifest_first")
    assert any("not a regular file" in text for text in report["incomplete"])


@pytest.mark.slow("every kill until the bug shows, 2 s")
def test_planted_bug_files_written_in_place_are_caught(toys: Any) -> None:
    report = drive(toys, "events", points=10_000, mutant="write_in_place")
    assert report["differing"] > 0
