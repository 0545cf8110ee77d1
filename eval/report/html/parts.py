"""What a page is made of: sections of tables and charts, or the command that makes what is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from eval.report.html.charts import Mark, intervals
from eval.report.html.svg import two
from eval.report.row import ReportRow, RowRounds
from eval.report.row_names import label, sorted_by_drafter, temperatures
from eval.run.metrics import Estimate, decimals

NONE = "\u2013"


@dataclass(frozen=True)
class TableCell:
    """One cell of a table. Numbers stand right and sort by `value`."""

    text: str
    value: float | None = None
    number: bool = False
    tint: float | None = None  # 0 to 1: strength of the background
    note: str = ""  # tooltip
    tone: str = ""  # "good", "bad" or nothing


@dataclass(frozen=True)
class HtmlTable:
    """A table with its heading and what to know of it."""

    columns: Sequence[str]
    rows: Sequence[Sequence[TableCell]]
    caption: str = ""
    title: str = ""
    dense: bool = False  # narrow cells: a table of many small numbers
    folded: str = ""  # shown only on a click on these words


@dataclass(frozen=True)
class Figure:
    """A chart with its heading, and a legend where its colours are its own."""

    title: str
    svg: Markup
    legend: Sequence[tuple[int, str]] = ()  # (series, name)


@dataclass(frozen=True)
class TokenMark:
    """A token of a text: how it looks, and what is said of it where it is pointed at."""

    text: str
    kind: str  # a class of the style sheet
    said: str
    boxed: bool = False


@dataclass(frozen=True)
class TokenText:
    """A text token by token, with what it continues."""

    title: str
    before: str
    tokens: Sequence[TokenMark]
    legend: Sequence[tuple[TokenMark, str]] = ()  # (how it looks, what it is)

    @property
    def plain(self) -> str:
        """The text for those who do not want its tokens."""
        return "".join(token.text for token in self.tokens)


@dataclass(frozen=True)
class Section:
    """One part of the page."""

    id: str
    title: str
    lead: str  # what to look at
    legend: Sequence[tuple[int, str]] = ()  # (series, name)
    figures: Sequence[Figure] = ()
    tables: Sequence[HtmlTable] = ()
    texts: Sequence[TokenText] = ()
    notes: Sequence[str] = ()
    warning: str = ""  # what must be known before anything here is believed


@dataclass(frozen=True)
class Missing:
    """A part that cannot be shown, and the command after which it can."""

    id: str
    title: str
    reason: str
    commands: Sequence[str] = field(default_factory=tuple)


Part = Section | Missing


def words(value: object, note: str = "", tone: str = "") -> TableCell:
    """A cell of text; None is a dash."""
    return TableCell(NONE if value is None else str(value), note=note, tone=tone)


def number(
    value: float | None, form: str = "{:.2f}", tint: float | None = None, note: str = "", tone: str = ""
) -> TableCell:
    """A cell of a number; None is a dash and sorts last."""
    return TableCell(NONE if value is None else form.format(value), value, True, tint, note, tone)


def spread(found: Estimate | None, digits: int = 2, sign: str = "") -> TableCell:
    """A number with its interval, in more digits where that is narrower; without one where there is none."""
    if found is None or found.low is None or found.high is None:
        return number(None if found is None else found.value, f"{{:{sign}.{digits}f}}")
    form = f"{{:{sign}.{decimals(found.low, found.high, digits)}f}}"
    interval = f"{form.format(found.low)}\u2013{form.format(found.high)}"
    return TableCell(f"{form.format(found.value)} ({interval})", found.value, True)


def named(row: ReportRow | RowRounds, rows: Sequence[ReportRow]) -> list[TableCell]:
    """The cells that say which of `rows` it is: temperature, sampler, drafter."""
    return [number(row.temperature, "{:g}"), words(label(row, rows)), words(row.drafter)]


def dots(
    rows: Sequence[ReportRow], names: Sequence[str], what: str, unit: str, mark: Callable[[ReportRow], Mark], one: bool
) -> list[Figure]:
    """A chart of marks per temperature, drafters in the order of `names`; `one`: with a line at 1, where nothing is gained."""
    found = []
    for heat in temperatures(rows):
        here = sorted_by_drafter([row for row in rows if row.temperature == heat], names)
        title = f"{what}, T = {heat:g}"
        found.append(Figure(title, intervals([mark(row) for row in here], title, unit, two, 1.0 if one else None)))
    return found
