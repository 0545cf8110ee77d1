"""How much of what is drafted is accepted: by sampler, by position, and against what is possible."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from eval.report.html.charts import Line, Mark, Point, Scale, lines
from eval.report.html.parts import Figure, HtmlTable, Missing, Part, Section, dots, named, number, words
from eval.report.html.svg import two
from eval.report.row import Position, ReportRow, RowRounds
from eval.report.row_names import drafters, fastest, label, label_with_drafter, temperatures
from eval.report.schema import Report
from eval.run.records import PACKAGE, UNPRUNED


def by_sampler(report: Report) -> Section:
    """Acceptance rate, block efficiency and speed-up of every row, with intervals."""
    rows = report.rows
    names = drafters(rows)
    drawn = sorted((row for row in rows if row.drafted_here), key=_tokens_per_forward)
    charts = [
        dots(drawn, names, unit.capitalize(), unit, partial(_mark, field=field, names=names, rows=rows), one)
        for field, unit, one in (
            ("acceptance_rate", "acceptance", False),
            ("block_efficiency", "tokens per target forward", True),
            ("speedup_vs_autoregressive", "speed-up over plain decoding", True),
        )
    ]
    return Section(
        "samplers",
        "Acceptance, block efficiency and speed by sampler",
        f"{_what_is_shown(rows)} Lines are 95 % intervals over prompts. Look first at tokens per target forward: it is what the "
        "sampler earns; the speed-up is what is left after the drafter and the verification are paid. A line that crosses the "
        "dashed one: nothing is gained for sure.",
        legend=list(enumerate(names)),
        figures=[figure for at_one_temperature in zip(*charts, strict=True) for figure in at_one_temperature],
    )


EXPECTED = {"acceptance_rate": "acceptance", "block_efficiency": "tokens_per_forward"}  # of a measured figure


def _what_is_shown(rows: Sequence[ReportRow]) -> str:
    if not any(row.acceptance is not None for row in rows):
        return "Dots are measured."
    return (
        "Acceptance and tokens per forward are expected, on the same text for all (measured where the note says so); speed-ups are "
        "measured."
    )


def _tokens_per_forward(row: ReportRow) -> float:
    return -(row.tokens_per_forward or row.block_efficiency or 0.0)


def _mark(row: ReportRow, field: str, names: list[str], rows: Sequence[ReportRow]) -> Mark:
    name, note = field, f"[{row.drafter}]"
    if field in EXPECTED and any(other.estimate(EXPECTED[field]) is not None for other in rows):
        if row.estimate(EXPECTED[field]) is not None:
            name = EXPECTED[field]
        else:
            note += " measured"
    found = row.estimate(name)
    value, low, high = (None, None, None) if found is None else (found.value, found.low, found.high)
    return Mark(label(row, rows), value, low, high, names.index(str(row.drafter)), note=note)


def by_position(report: Report) -> Part:
    """Acceptance at the 1st, 2nd, ... drafted position: three rows as lines, all as a table."""
    title, entries = "Acceptance by position", [item for item in (report.rounds or []) if item.positions]
    if not entries:
        return Missing("positions", title, "this report holds nothing about single rounds", [report.command("eval")])
    rows, found = report.rows, {item.identity: item.positions for item in entries}
    figures = []
    for temperature in temperatures(entries):
        chosen = [row for row in _chosen(rows, temperature) if row.identity in found]
        if not chosen:
            continue
        series = [
            Line(label_with_drafter(row, rows), _points(found[row.identity]), number)
            for number, row in enumerate(chosen)
        ]
        heading = f"Accepted, given that it was tested, T = {temperature:g}"
        chart = lines(
            series, heading, Scale("position in the draft"), Scale("accepted / tested", two, top=1.0), apart=4.0
        )
        figures.append(Figure(heading, chart, [(line.series, line.name) for line in series]))
    return Section(
        "positions",
        title,
        "A draft is tested only if all before it were accepted. A rate that falls with the position is an argument for drafting "
        "less, or for a stop policy. The charts show the packaged row with most tokens per target forward, the unpruned "
        "reference and the fastest row, where they differ.",
        figures=figures,
        tables=[_positions(entries, rows)],
    )


def _chosen(rows: Sequence[ReportRow], temperature: float) -> Sequence[ReportRow]:
    """Most tokens per forward, the unpruned reference, the fastest; each once."""
    here = [row for row in rows if row.temperature == temperature and row.drafted_here]
    best = max(
        (row for row in here if row.drafter == PACKAGE), key=lambda row: row.block_efficiency or 0.0, default=None
    )
    reference = next((row for row in here if row.drafter == UNPRUNED), None)
    found: list[ReportRow] = []
    for row in (best, reference, fastest(rows, temperature)):
        if row is not None and row not in found:
            found.append(row)
    return found


def _points(positions: Sequence[Position]) -> list[Point]:
    return [Point(item.position, item.rate, item.low, item.high) for item in positions if item.rate is not None]


def _positions(entries: Sequence[RowRounds], rows: Sequence[ReportRow]) -> HtmlTable:
    most = max(len(item.positions) for item in entries)
    columns = ("T", "sampler", "drafter", *map(str, range(1, most + 1)))
    cells = []
    for item in entries:
        rates = [
            number(place.rate, tint=place.rate, note=f"{place.accepted:,} of {place.verified:,} accepted")
            for place in item.positions
        ]
        cells.append([*named(item, rows), *rates, *[words("")] * (most - len(rates))])
    return HtmlTable(
        columns, cells, "Share accepted at each position of a round.", dense=True, folded="All rows as a table"
    )


def against_optimum(report: Report) -> Part:
    """Each verifier beside the best lossless one for the way its drafts are drawn."""
    title, every = "Gap to the optimal transport", report.rows
    # At temperature 0 distributions are one-hot and every lossless verifier is optimal.
    rows = [row for row in every if row.optimal_acceptance is not None and row.temperature > 0]
    if not rows:
        reason = "no laws (p, q) were logged at a temperature above 0"
        return Missing(
            "optimum", title, reason, [report.command("eval", "eval.law_rounds=48", "eval.temperatures=[1]")]
        )
    names = drafters(every)
    unit, mark = "probability that one of the k drafts is accepted", partial(_optimum_mark, names=names, rows=every)
    return Section(
        "optimum",
        title,
        "The dot is the verifier's own probability to accept one of the drafts at a node, the diamond the highest that any lossless "
        "verifier could reach with drafts drawn like these, both computed on the same logged laws. What lies between them can be "
        "won by a better verifier; what lies between the diamond and 1 only by a better drafter or more drafts.",
        legend=list(enumerate(names)),
        figures=dots(rows, names, "Acceptance at one node", unit, mark, one=False),
        tables=[_optimum_table(rows, every)],
    )


def _optimum_mark(row: ReportRow, names: list[str], rows: Sequence[ReportRow]) -> Mark:
    best = row.optimal_acceptance
    note = f"optimum {best:.3f}, k = {row.drafts_at_root} [{row.drafter}]"
    return Mark(label(row, rows), row.expected_acceptance, series=names.index(str(row.drafter)), best=best, note=note)


def _optimum_table(rows: Sequence[ReportRow], every: Sequence[ReportRow]) -> HtmlTable:
    columns = ("T", "sampler", "drafter", "k", "expected", "optimum", "gap", "laws", "measured at the root", "rounds")
    cells = [
        [
            *named(row, every),
            number(row.drafts_at_root, "{:d}"),
            number(row.expected_acceptance, "{:.3f}"),
            number(row.optimal_acceptance, "{:.3f}"),
            number(_gap(row), "{:.3f}"),
            number(row.common_laws, "{:,d}"),
            number(row.measured_at_root, "{:.3f}"),
            number(row.law_rounds, "{:,d}"),
        ]
        for row in rows
    ]
    return HtmlTable(
        columns,
        cells,
        "A row without expected value: its verifier has no closed form. Measured: share of the sampler's own rounds in which one of "
        "the root's children was accepted.",
        folded="The same as a table",
    )


def _gap(row: ReportRow) -> float | None:
    """Without the minus sign of rounding."""
    gap = row.gap_to_optimum
    return gap if gap is None or abs(gap) >= 5e-4 else 0.0
