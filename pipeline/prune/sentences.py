"""What prune says on the screen: what is kept and covered, and what would cover more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from eval.stats.clustered import Share
from pipeline.prune.unseen import Unseen, times_for_width
from pipeline.runner.stage import say

MOST_ROWS = 12  # of the table of domains; the report holds all
SURE_ENOUGH = 0.03  # half of the interval of the coverage, as warned of


def say_report(console: Console, report: Mapping[str, Any], unseen: Unseen | None, more_text: str) -> None:
    """Print what a choice keeps and covers, and warn of what it lacks; `more_text`: the setting that gives more."""
    kept, rows, covered = (report[key] for key in ("kept", "drafter_vocabulary", "coverage"))
    say(console, f"{kept:,} of {rows:,} tokens kept, {100 * covered:.1f} % of the counted text covered")
    if report["heldout_coverage"] is not None:
        say(console, f"held-out text: {100 * report['heldout_coverage']:.1f} % covered")
    if unseen is not None:
        say(
            console,
            f"unseen text: {unseen.coverage} covered, judged on {unseen.documents:,} documents; {unseen.mass} of it are "
            "tokens that the counted text does not hold",
        )
    if report["drafter_coverage"] != covered:  # two tokenizers cut the text into different tokens
        say(console, f"of the drafter's own tokens of that text, {100 * report['drafter_coverage']:.1f} % are kept")
    if report["differences"]:
        say(console, f"one vocabulary, although {report['differences']}")
    if len(report["domains"]) > 1:
        console.print(_domains(report), soft_wrap=False)
    for line in [*_low_coverage(report), *_little_text(report, unseen, more_text)]:
        say(console, f"warning: {line}")
    if unseen is not None and unseen.coverage.half > SURE_ENOUGH:
        say(console, _wide(unseen, more_text))
    if report["uncounted"]:
        say(console, _uncounted(report))
    if lost := report["without_drafter_token"]:
        say(console, f"protected, but unknown to the drafter: {', '.join(lost)}")


def _uncounted(report: Mapping[str, Any]) -> str:
    never = f"{report['uncounted']:,} of the kept never occur in"
    if positions := report["law_positions"]:
        return f"{never} the counted text: chosen by the target's own law at {positions:,} positions of its text"
    return (
        f"the text uses fewer tokens than asked for: {never} it, filled in order of id; count more text, or keep fewer"
    )


def _domains(report: Mapping[str, Any]) -> Table:
    """A row per domain, the least covered first."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    shares, unseen = report["domains"], (report["unseen"] or {}).get("domains", {})
    names = ("domain", "tokens", "counted text", *(("unseen text (95 %)",) if unseen else ()))
    for name in names:
        table.add_column(name, justify="right" if name in ("tokens", "counted text") else "left")
    for name in sorted(shares, key=shares.__getitem__)[:MOST_ROWS]:
        found = Share(**unseen[name]) if name in unseen else ""
        row = (name, f"{report['domain_tokens'][name]:,}", f"{100 * shares[name]:.1f} %", str(found))
        table.add_row(*row[: len(names)])
    return table


def _low_coverage(report: Mapping[str, Any]) -> list[str]:
    limit = report["warn_coverage"]
    low = {"the counted text": report["coverage"]} if report["coverage"] < limit else {}
    if (least := report["least_covered"]) is not None:
        low[f"the domain {least['domain']}"] = least["coverage"]
    most, ceiling = report["curve"][-1]  # with everything that can be kept
    fix = (
        "raise prune.size or prune.min_domain_coverage"
        if ceiling >= limit
        else f"all {most:,} tokens that can be kept cover {100 * ceiling:.1f} %, a drafter of the target's family more"
    )
    return [
        f"{100 * found:.1f} % of {what} is covered, below prune.warn_coverage={limit:g}: the rest is never drafted; {fix}"
        for what, found in low.items()
    ]


def _little_text(report: Mapping[str, Any], unseen: Unseen | None, more_text: str) -> list[str]:
    """Whether more text would change the choice."""
    if unseen is None:
        return []
    said, limit = [], report["warn_unseen"]
    if unseen.lacking >= limit:
        times = unseen.times(limit)
        more = "" if times is None else f", about {_times(times)} as much text would leave {100 * limit:g} %"
        said.append(
            f"little text for this choice: made from far more, it would cover about {100 * unseen.lacking:.1f} % more of what comes{more} "
            f"(prune.warn_unseen={limit:g}): {more_text}"
        )
    return said


def _wide(unseen: Unseen, more_text: str) -> str:
    times = times_for_width(unseen.coverage, SURE_ENOUGH)
    return (
        f"what is covered of unseen text is known within {100 * unseen.coverage.half:.1f} points; about {_times(times)} as many "
        f"documents would tell it within {100 * SURE_ENOUGH:g}: {more_text}"
    )


def _times(factor: float) -> str:
    return f"{math.ceil(factor)}x" if factor <= 100 else "more than 100x"
