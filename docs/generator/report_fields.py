"""docs/reference/report_fields.md: what every field of report.json means, from the DEFINITIONS that the report itself carries."""

from __future__ import annotations

from collections.abc import Mapping

from docs.generator.markdown import page as as_page
from docs.generator.markdown import table
from eval.expectation import expectation_summary as expectation
from eval.report import annotations as summary
from eval.report import rounds
from eval.report.write import COST_FIELDS, HEAD_FIELDS, ROW_FIELDS, SCHEMA
from eval.run import metrics

INTRODUCTION = (
    "`make eval` writes `report.json` and, of its rows, `report.csv`. Fields with the endings `_low` and `_high` are the ends of a 95 % "
    "interval. A value that cannot be known is null. The report carries these definitions itself, under `definitions`."
)
COSTS = {
    "t": "seconds of a target forward of one token",
    "d_full": "seconds of a drafter forward, unpruned",
    "d_pruned": "seconds of a drafter forward, packaged",
    "c": "d_pruned / t",
}


def page() -> str:
    """The whole page."""
    stable = [
        ["report", ", ".join(f"`{name}`" for name in HEAD_FIELDS)],
        ["`costs`", ", ".join(f"`{name}`" for name in COST_FIELDS)],
        ["each of `rows`", ", ".join(f"`{name}`" for name in ROW_FIELDS)],
    ]
    return as_page(
        "Fields of the report",
        INTRODUCTION,
        f"## What readers may rely on\n\nSchema {SCHEMA}; further fields follow, and may change.",
        table(["part", "fields, in this order"], stable),
        "## Costs",
        _defined({name: COSTS[name] for name in COST_FIELDS}),
        "## Expected on the target's own text",
        _defined(expectation.DEFINITIONS),
        "## Measured on prompts",
        _defined(metrics.DEFINITIONS),
        "## Proof, optimum, races",
        _defined(summary.DEFINITIONS),
        "## Round by round",
        _defined(rounds.DEFINITIONS),
    )


def _defined(definitions: Mapping[str, str]) -> str:
    return table(["field", "meaning"], [[f"`{name}`", meaning] for name, meaning in definitions.items()])
