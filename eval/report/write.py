"""report.json and report.csv: one schema, numbers or null."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

SCHEMA = 1
HEAD_FIELDS = ("schema", "device", "dtype", "pair", "vocabulary", "kept", "coverage", "costs", "rows")
COST_FIELDS = ("t", "d_full", "d_pruned", "c")
ROW_FIELDS = (
    "sampler",
    "executor",
    "stop",
    "temperature",
    "kept",
    "accepted",
    "drafted",
    "target_forwards",
    "tokens",
    "acceptance_rate",
    "acceptance_rate_low",
    "acceptance_rate_high",
    "block_efficiency",
    "tokens_per_second",
    "speedup_vs_autoregressive",
    "speedup_vs_unpruned",
)  # what readers may rely on, in this order; further fields follow


def assemble(head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The report: schema 1, the fields that readers may rely on first.

    Args:
        head: device, dtype, pair, vocabulary, kept, coverage and costs.
        rows: as `eval.run.metrics.rows` makes them.
        extra: whatever else is worth telling.

    Raises:
        ValueError: a field that readers rely on is missing.
    """
    report = {"schema": SCHEMA, **head, "rows": [_ordered(row, ROW_FIELDS, "row") for row in rows]}
    _ordered(report["costs"], COST_FIELDS, "costs")
    return {**_ordered(report, HEAD_FIELDS, "report"), **extra}


def to_json(report: Mapping[str, Any]) -> bytes:
    """Raises ValueError for NaN or infinity, which are no JSON."""
    return (json.dumps(report, indent=2, allow_nan=False) + "\n").encode()


def to_csv(report: Mapping[str, Any]) -> bytes:
    """The rows; an empty cell is null."""
    stream = io.StringIO()
    names = list(dict.fromkeys(name for row in report["rows"] for name in row))
    writer = csv.DictWriter(stream, names or ROW_FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(report["rows"])
    return stream.getvalue().encode()


def _ordered(fields: Mapping[str, Any], first: Sequence[str], what: str) -> dict[str, Any]:
    if missing := [name for name in first if name not in fields]:
        raise ValueError(f"{what} of a schema {SCHEMA} report must have {', '.join(missing)}, got {', '.join(fields)}")
    return {**{name: fields[name] for name in first}, **fields}
