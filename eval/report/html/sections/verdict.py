"""The first thing on the page: what to decode with, and how sure that is."""

from __future__ import annotations

from drafters.package.recommendation.choices import Rated, Use
from eval.report.html.parts import HtmlTable, Missing, Part, Section, TableCell, number, spread, words
from eval.report.schema import Report
from eval.run.metrics import Estimate

FORMS = {"package": "pruned drafter", "tail": "pruned drafter with its tail", "unpruned": "unpruned drafter"}
PLAIN = "plain decoding"


def verdict(report: Report) -> Part:
    """Per temperature the choice, its interval, its prediction, the next best, and why."""
    title, choices = "What to use", report.verdict or ()
    if not choices:
        reason = "this evaluation did not ask for a verdict, or none of its samplers has one"
        return Missing("use", title, reason, [report.command("eval", "eval.positions=4000")])
    rows = [_row(choice.temperature, place, rated) for choice in choices for place, rated in enumerate(choice.ranked)]
    return Section(
        "use",
        title,
        "Every form of the drafter, sampler and draft length was ranked by its expected rounds at the measured costs; the first few "
        "then ran by the clock beside plain decoding, in turns, on prompts kept back from the ranking. What is chosen is the fastest "
        "that the clock can tell from plain decoding, else plain decoding.",
        tables=[
            HtmlTable(
                ("T", "", "drafter", "sampler", "per round", "over plain (clock)", "predicted", "in words", "prompts"),
                rows,
                "In brackets the 95 % interval over prompts.",
            )
        ],
        notes=[f"T = {choice.temperature:g}: {choice.reason}" for choice in choices],
        warning=" ".join(f"{text.rstrip('.')}." for text in report.warnings or []),
    )


def tiles(report: Report) -> list[tuple[str, str, str]]:
    """(figure, what it is, further words) of every temperature's choice."""
    found = []
    for choice in report.verdict or []:
        use, speed = choice.use, choice.speedup
        where = f"at T = {choice.temperature:g}"
        if use.plain:
            found.append(("1\u00d7", f"{PLAIN} is what to use {where}", "no way to draft is faster for sure"))
        else:
            interval = f"95 %: {speed.low:.2f} to {speed.high:.2f}"
            who = f"{use.sampler} ({use.form}), {_per_round(use)} a round"
            found.append((f"{speed.ratio:.2f}\u00d7", f"over plain decoding {where}, {interval}", who))
    return found


def in_words(low: float | None, high: float | None) -> str | None:
    """What an interval of a speed-up says; None without one."""
    if low is None or high is None:
        return None
    return "faster" if low > 1 else "slower" if high < 1 else "cannot tell from plain decoding"


def tone(said: str | None) -> str:
    """The colour of such words."""
    return {"faster": "good", "slower": "bad"}.get(said or "", "")


def _row(temperature: float, place: int, rated: Rated) -> list[TableCell]:
    use, speed = rated.use, rated.speedup
    said = None if use.plain else in_words(speed.low, speed.high)
    options = ", ".join(f"{name}={value}" for name, value in use.options.items())
    return [
        number(temperature, "{:g}"),
        words("use" if place == 0 else "next", tone="good" if place == 0 else ""),
        words(PLAIN if use.plain else FORMS.get(str(use.form), use.form)),
        words(use.sampler, note=options),
        words(None if use.plain else _per_round(use)),
        number(1.0) if use.plain else spread(Estimate(speed.ratio, speed.low, speed.high)),
        number(rated.predicted),
        words(said, tone=tone(said)),
        number(rated.prompts, "{:,d}"),
    ]


def _per_round(use: Use) -> str:
    """Drafts, or levels of a tree, whose options hold its shape; of another policy at most so many."""
    what = "level" if "branching" in use.options else "draft"
    most = "" if use.stop == "static" else f"{use.stop}, at most "
    return (
        "as many as its policy drafts"
        if use.length is None
        else f"{most}{use.length} {what}{'' if use.length == 1 else 's'}"
    )
