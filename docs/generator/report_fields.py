"""docs/reference/report_fields.md: the fields of report.json, and what they mean, from the dataclasses that it is made of."""

from __future__ import annotations

from dataclasses import fields

from docs.generator.markdown import page as as_page
from docs.generator.markdown import table
from eval.report.row import ReportRow, RowRounds
from eval.report.schema import SCHEMA, ForwardCosts, Report, definitions, required
from eval.report.texts.answer import Answer, Answers, AnswerToken, RejectedDraft

INTRODUCTION = (
    "`make eval` writes `report.json` and, of its rows, `report.csv`. Fields with the endings `_low` and `_high` are the ends of a 95 % "
    "bootstrap interval over prompts, or over texts where they are expected. A value that cannot be known is null. The report carries the "
    "meanings of its rows' fields itself, under `definitions`."
)


def page() -> str:
    """The whole page."""
    parts = (("report", Report), ("`costs`", ForwardCosts), ("each of `rows`", ReportRow))
    return as_page(
        "Fields of the report",
        INTRODUCTION,
        f"## What readers may rely on\n\nSchema {SCHEMA}; further fields follow, and may change.",
        table(
            ["part", "fields, in this order"],
            [[name, ", ".join(f"`{item}`" for item in required(kind))] for name, kind in parts],
        ),
        "## The report",
        _defined(Report),
        "## Costs",
        _defined(ForwardCosts),
        "## Each row",
        _defined(ReportRow),
        "## Round by round",
        _defined(RowRounds),
        "## Answers, token by token",
        _defined(Answers),
        "### Each answer",
        _defined(Answer),
        "### Each token",
        _defined(AnswerToken),
        "### A rejected draft",
        _defined(RejectedDraft),
    )


def _defined(kind: type) -> str:
    known = definitions(kind)
    others = [
        f"`{item.name}`"
        for item in fields(kind)
        if item.name not in known and not item.name.endswith(("_low", "_high"))
    ]
    told = table(["field", "meaning"], [[f"`{name}`", meaning] for name, meaning in known.items()])
    return f"{told}\n\nWhat their names say: {', '.join(others)}." if others else told
