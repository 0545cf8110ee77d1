"""The result files of the CPU."""

from __future__ import annotations

import csv
import json
from typing import Any

from drafters.io.paths import REPOSITORY

FOLDER = REPOSITORY / "eval" / "results" / "cpu"
TEMPERATURES = ("0.0", "1.0")


def load(name: str) -> Any:
    """A result file of the CPU: parsed JSON, or the rows of a CSV file."""
    path = FOLDER / name
    if path.suffix == ".csv":
        with open(path, encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    return json.loads(path.read_text(encoding="utf-8"))
