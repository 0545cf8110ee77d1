"""The one list of generated pages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from docs.generator import blocks, report_fields, settings, stages
from docs.generator.results import page as results

DOCS = Path(__file__).resolve().parents[1]
PAGES: dict[str, Callable[[], str]] = {
    "../README.md": blocks.readme,
    "quickstart.md": blocks.quickstart,
    "results.md": results.page,
    "reference/stages.md": stages.page,
    "reference/settings.md": settings.page,
    "reference/report_fields.md": report_fields.page,
}
