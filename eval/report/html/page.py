"""report.html: one file, no network, light and dark, readable on a phone. All of it follows from its sources.

Everything that is not this program's own text is escaped; a content security policy forbids the page to load or to run anything
but its own style sheet and its one script, which sorts tables and moves from token to token.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from eval.report.html.parts import Missing, Part
from eval.report.html.sections import acceptance, costs, disco, further, proof, results, texts, verdict
from eval.report.schema import Report
from eval.report.sources import Further, ReportError

NAME = "report.html"
MOST_BYTES = 2_000_000
FILES = Path(__file__).with_name("template")
SCRIPTS, STYLES = ("sort.js", "tokens.js"), ("style.css", "tokens.css")


def render(report: Report, more: Further | None = None) -> bytes:
    """The page, UTF-8.

    Args:
        report: of an evaluation.
        more: further measurements; what is None is replaced by the command that makes it.

    Raises:
        ReportError: the page is larger than MOST_BYTES; fewer rows make it smaller.
    """
    script, style = (Markup("\n".join(map(_file, names))) for names in (SCRIPTS, STYLES))
    policy = "; ".join(
        ("default-src 'none'", "img-src data:", f"style-src '{_digest(style)}'", f"script-src '{_digest(script)}'")
    )
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((FILES / "page.html").read_text(encoding="utf-8"))
    made = template.render(
        report=report,
        parts=parts(report, more or Further()),
        tiles=results.tiles(report),
        provenance=provenance(report),
        policy=policy,
        style=style,
        script=script,
        is_missing=lambda part: isinstance(part, Missing),
    ).encode()
    if len(made) > MOST_BYTES:
        raise ReportError(
            f"{NAME}: expected at most {MOST_BYTES:,} bytes, got {len(made):,} for {len(report.rows)} rows; evaluate fewer at "
            f"once: {report.command('eval', 'eval.samplers=[...]')}"
        )
    return made


def parts(report: Report, more: Further) -> list[Part]:
    """The page's parts, from what matters to most readers to what matters to few."""
    return [
        verdict.verdict(report),
        acceptance.by_sampler(report),
        results.results(report),
        texts.texts(report),
        acceptance.by_position(report),
        proof.lossless(report, more.certificate),
        acceptance.against_optimum(report),
        results.papers(report),
        costs.cycles(report),
        costs.policies(report),
        further.kept_size(more.curve, report.command("sweep")),
        disco.disco(more.disco, report.command("train-disco")),
        further.dsi(more.dsi),
    ]


def provenance(report: Report) -> list[tuple[str, str]]:
    """What was measured with what."""
    found = [
        ("pair", report.pair),
        ("device", f"{report.device}, {report.dtype}; threads: {report.threads}"),
    ]
    for role, model in report.models.items():
        found.append((role, f"{model.id} at {model.revision}" if model.revision else str(model.id)))
    prompts = report.prompts
    found.append(("prompts", f"{prompts.count} of {prompts.suite}; repeats: {prompts.repeats}"))
    if report.code:
        found.append(("code", str(report.code)))
    found.append(("rows", f"{len(report.rows)}"))
    return found


def _file(name: str) -> str:
    return (FILES / name).read_text(encoding="utf-8").strip()


def _digest(content: str) -> str:
    """As a content security policy names an inline style sheet or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
