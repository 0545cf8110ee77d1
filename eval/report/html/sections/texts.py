"""A few answers, every token marked by who wrote it: what pruning loses, and where."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from eval.report.html.parts import HtmlTable, Missing, Part, Section, TableCell, TokenMark, TokenText, number, words
from eval.report.schema import Report
from eval.report.texts.answer import ORIGINS, Answer, Answers, AnswerToken
from eval.run.records import PACKAGE, TAILED, UNPRUNED

ON_PAGE = 2400  # tokens: they take about 0.9 MB
NAMES = {
    "accepted": "accepted draft",
    "correction": "correction, where a draft was rejected",
    "bonus": "bonus, after drafts that were all accepted",
    "plain": "plain, in a round without drafts",
}
DRAFTERS = {UNPRUNED: "unpruned", PACKAGE: "pruned", TAILED: "with tail"}
SHOWN = {"\n": "\u21b5\n", "\t": "\u21e5\t"}
# Categories of characters without a look of their own, some of which reorder others.
HIDDEN = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
PART = "\u25af"  # a token that completes no character


def texts(report: Report) -> Part:
    """The answers as the packaged drafter and the target wrote them, and a count of what it could not say."""
    title, found = "What pruning loses, token by token", report.texts
    if found is None or not found.answers:
        reason = (
            "no answers were recorded; those to prompts of your own are only where you ask for it, as they then stand in "
            "report.json and on this page"
        )
        return Missing("texts", title, reason, [report.command("eval", "eval.texts=2")])
    shown = _fitting(found.answers)
    return Section(
        "texts",
        title,
        "Whoever wrote a token colours it. A framed one has no row in the pruned drafter's head: it cannot be drafted, and a round "
        "ends there. Point at a token, or move with Tab and the arrow keys, for the probabilities: p the target's, q the drafters'.",
        texts=[_text(answer) for answer in shown],
        tables=[_counts(found.answers)],
        notes=_notes(found, shown),
    )


def _fitting(answers: Sequence[Answer]) -> list[Answer]:
    """The first answers, as many as fit on the page."""
    found, tokens = list[Answer](), 0
    for answer in answers:
        tokens += len(answer.tokens)
        if tokens > ON_PAGE:
            break
        found.append(answer)
    return found


def _notes(found: Answers, shown: Sequence[Answer]) -> list[str]:
    said = [
        f"Decoded once more after the timed runs with the sampler {found.sampler} and the stop policy {found.stop}. Probabilities are "
        "those of one pass over the finished text, at the answer's temperature; of greedy answers at temperature 1."
    ]
    if rest := len(found.answers) - len(shown):
        said.append(f"{rest} further answers stand in report.json.")
    return said


def _text(answer: Answer) -> TokenText:
    title = f"{visible(answer.prompt)}, T = {answer.temperature:g}"
    marks = [
        TokenMark(visible(token.text) or PART, token.origin, said(token), not token.sayable) for token in answer.tokens
    ]
    return TokenText(title, visible(answer.asked), marks, _legend(answer.tokens))


def _legend(tokens: Sequence[AnswerToken]) -> list[tuple[TokenMark, str]]:
    """What occurs, and how often."""
    counts = [(origin, sum(token.origin == origin for token in tokens)) for origin in ORIGINS]
    found = [(TokenMark("token", origin, ""), f"{NAMES[origin]}: {count}") for origin, count in counts if count]
    lost = sum(not token.sayable for token in tokens)
    return [*found, (TokenMark("token", "", "", boxed=True), f"no row in the pruned drafter: {lost}")]


def said(token: AnswerToken) -> str:
    """All that is known of a token, a line each."""
    lines = [_named(token.text, token.raw, token.id), NAMES[token.origin]]
    if (draft := token.rejected) is not None:
        lines.append(
            f"rejected draft: {_named(draft.text, draft.raw, draft.id)}, p {_chance(draft.p)}, q {_chance(draft.q)}"
        )
    lines.append(f"p {_chance(token.p)}")
    if known := [f"{name} {_chance(token.q[drafter])}" for drafter, name in DRAFTERS.items() if drafter in token.q]:
        lines.append(f"q: {', '.join(known)}")
    if not token.sayable:
        lines.append("no row in the pruned drafter")
    return "\n".join(lines)


def _named(text: str, raw: str | None, number: int) -> str:
    """A token in quotes, on one line."""
    shown = visible(text).replace("\n", "").replace("\t", "")
    spelled = f"\u201c{shown}\u201d" if shown else "part of a character"
    return f"{spelled}, {'' if raw is None else f'bytes {raw}, '}id {number}"


def _chance(value: float | None) -> str:
    if value is None:
        return "unknown"
    return "0" if value == 0 else "< 0.001" if value < 0.0005 else f"{value:.3f}"


def visible(text: str) -> str:
    """The text with its line ends, tabs and characters without a look shown: `\\u202e` is ⟨U+202E⟩ and turns nothing round."""
    return "".join(SHOWN.get(letter) or _letter(letter) for letter in text)


def _letter(letter: str) -> str:
    return f"\u27e8U+{ord(letter):04X}\u27e9" if unicodedata.category(letter) in HIDDEN else letter


def _counts(answers: Sequence[Answer]) -> HtmlTable:
    columns = (
        "T", "prompt", "tokens", "rounds", "accepted", "corrections", "bonus", "no row", "of corrections", "q unpruned", "q tail",
    )  # fmt: skip
    return HtmlTable(
        columns,
        [_row(answer) for answer in answers],
        "No row: tokens that the pruned drafter cannot draft; then their share of the corrections, and the mean probability with which "
        "the unpruned drafter and the tail would have drafted them.",
        title="Counts",
    )


def _row(answer: Answer) -> list[TableCell]:
    tokens = answer.tokens
    lost = [token for token in tokens if not token.sayable]
    by_origin = {origin: [token for token in tokens if token.origin == origin] for origin in ORIGINS}
    corrections = by_origin["correction"]
    share = sum(not token.sayable for token in corrections) / len(corrections) if corrections else None
    return [
        number(answer.temperature, "{:g}"),
        words(visible(answer.prompt)),
        number(len(tokens), "{:d}"),
        number(answer.rounds, "{:d}"),
        *(number(len(by_origin[origin]), "{:d}") for origin in ORIGINS[:3]),
        number(len(lost), "{:d}"),
        number(None if share is None else 100 * share, "{:.0f} %"),
        *(number(_mean([token.q[name] for token in lost if name in token.q]), "{:.3f}") for name in (UNPRUNED, TAILED)),
    ]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
