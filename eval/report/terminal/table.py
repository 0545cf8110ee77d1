"""The report on the terminal: one row per temperature, sampler and drafter; 80 columns are enough."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from drafters.package.recommendation.choices import Choice, Use
from eval.report.row import ReportRow
from eval.report.schema import Report
from eval.report.terminal.comparisons import NONE, comparisons, fixed
from eval.run.metrics import decimals
from eval.run.records import DISTRIBUTED, PACKAGE, SPECULATIVE, TRANSFORMERS, UNPRUNED

WIDE = 100  # columns of the terminal from which there is room between the table's
COLUMNS = (
    ("T", "right"),
    ("sampler", "left"),
    ("drafter", "left"),
    ("drafts\nup to", "right"),
    ("acceptance\n(95 %)", "left"),
    ("tokens/\nforward", "right"),
    ("tokens\n/s", "right"),
    ("over plain\n(95 %)", "left"),
    ("lossless", "left"),
)
SHORT = {"not proven": "unproven", "lossy": "LOSSY"}
LENGTHS = "drafts up to: in the longest round that the row's stop policy allows; what to use is chosen among other lengths, too"


def table(report: Report, wide: bool) -> Table:
    """The main rows; a gap between temperatures, the fastest row of each temperature in bold."""
    made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0) if wide else 0, show_edge=False, title_justify="left")
    made.title = f"{report.pair} on {report.device}, {report.dtype}"
    for name, justify in COLUMNS:
        made.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    rows = main(report.rows)
    best = {
        row.temperature: max(_speed(other) for other in rows if other.temperature == row.temperature) for row in rows
    }
    for number, row in enumerate(rows):
        last = number + 1 < len(rows) and rows[number + 1].temperature != row.temperature
        fastest = row.tokens_per_second is not None and _speed(row) == best[row.temperature]
        made.add_row(*_cells(row, wide), end_section=last, style="bold" if fastest else None)
    return made


def show(report: Report, console: Console) -> None:
    """Print the table, what it does not hold (costs, whether greedy outputs are the target's own, coverage), and what to use.

    A report of few rows is printed for one screen of 80 columns.
    """
    few = report.selection == "few"
    console.print(table(report, wide=console.width >= WIDE), soft_wrap=False)
    for comparison in () if few else comparisons(report):
        console.print()
        console.print(Text(comparison.title, style="bold"), soft_wrap=True)
        console.print(comparison.table(), soft_wrap=False)
        console.print(Text(comparison.sentence, style="italic"), soft_wrap=True)
    for line in short_lines(report) if few else ["", *lines(report)]:
        console.print(Text(line), soft_wrap=True)
    if found := verdict(report, few):
        console.print(Text("What to use" if few else "\nWhat to use", style="bold"))
        for line in found:
            console.print(Text(line), soft_wrap=True)


def short_lines(report: Report) -> list[str]:
    """The least that must be said below the table."""
    greedy = report.greedy_identity
    said = [
        f"AR: plain decoding. Expected on {report.positions:,} positions of the target's own text; clock: {report.prompts.count} prompts"
    ]
    if report.verdict:
        said.append(LENGTHS)
    if greedy.outputs:
        ties = f", {greedy.ties} ties" if greedy.ties else ""
        said.append(f"T = 0: {greedy.identical} of {greedy.outputs} outputs are plain greedy decoding's{ties}")
        if greedy.status == "not required":  # the column lossless speaks of the rule, this line of its arithmetic
            said.append(
                "in bf16 forwards of several tokens round otherwise than those of one, and close tokens change places; "
                "dtype=fp32 shows whether the outputs are equal"
            )
    return (
        said
        + _peers(report.rows)
        + _noise(report.rows)
        + _lossy(report.rows)
        + _hidden(report)
        + _absent_and_warnings(report)
    )


def lines(report: Report) -> list[str]:
    """The sentences below the table."""
    costs, greedy = report.costs, report.greedy_identity
    said = [_legend(report), *([LENGTHS] if report.verdict else [])]
    said += _peers(report.rows) + _noise(report.rows)
    said.append(
        f"a target forward takes {_ms(costs.t)}, a draft {_ms(costs.d_full)} unpruned, {_ms(costs.d_pruned)} packaged: "
        f"a packaged draft costs c = {costs.c:.2f} of a target forward"
    )
    if greedy.outputs:
        said.append(
            f"T = 0: {greedy.identical} of {greedy.outputs} outputs identical to plain greedy decoding, "
            f"{greedy.ties} ties, {greedy.different} different"
        )
    said += _distributed(report.rows) + _proof(report)
    said += _hidden(report)
    said.append(
        f"{report.kept:,} of {report.drafter_vocabulary:,} tokens kept, {100 * report.coverage:.1f} % of the counted text covered"
        + (
            ""
            if (least := report.least_covered) is None
            else f"; warning: {100 * least.coverage:.1f} % of the domain {least.domain}"
        )
    )
    return [*said, *(report.held_out_said or ()), *_absent_and_warnings(report)]


def _hidden(report: Report) -> list[str]:
    hidden = len(report.rows) - len(main(report.rows))
    return [f"{hidden} further rows (other drafters, variants of samplers) are in report.csv"] if hidden else []


def _absent_and_warnings(report: Report) -> list[str]:
    return [*report.absent, *(f"warning: {text}" for text in report.warnings or ())]


def verdict(report: Report, short: bool = False) -> list[str]:
    """What to use, a line per temperature; nothing where there was no verdict."""
    choices = report.verdict or ()
    return [f"T = {choice.temperature:g}: {_in_short(choice) if short else choice.reason}" for choice in choices]


def _in_short(choice: Choice) -> str:
    if choice.use.plain:
        return choice.reason
    speed = choice.speedup
    gain = f"{speed.ratio:.2f}x plain ({speed.low:.2f}-{speed.high:.2f}) on {choice.prompts} unseen prompts"
    following = [f"; next {_use(item.use)}: {item.speedup.ratio:.2f}x" for item in choice.next[:1]]
    return f"{_use(choice.use)}: {gain}{''.join(following)}"


def _use(use: Use) -> str:
    drafts = f"{use.length} a round" if use.stop == "static" else f"stop policy {use.stop}"
    return f"{use.sampler} on {use.form}, {drafts}"


def _legend(report: Report) -> str:
    prompts = report.prompts
    timed = f"by the clock on {prompts.count} prompts of {prompts.suite}, up to {prompts.max_new_tokens} tokens each"
    if not report.positions:
        return f"AR: plain autoregressive decoding; {timed}, one request at a time"
    return (
        f"AR: plain autoregressive decoding. Acceptance and tokens per forward: expected, on {report.positions:,} positions of the "
        f"target's own text; speed: {timed}, one request at a time"
    )


def _peers(rows: Sequence[ReportRow]) -> list[str]:
    """The fastest row of each temperature over transformers' assisted generation with the unpruned drafter, in words."""
    said = []
    for heat in sorted({row.temperature for row in rows}):
        own = [
            row for row in rows if row.temperature == heat and row.speedup_vs_assisted is not None and row.drafted_here
        ]
        if own and (found := (best := max(own, key=_speed)).estimate("speedup_vs_assisted")) is not None:
            ends = "" if found.low is None else f" ({found.low:.2f}-{found.high:.2f})"
            said.append(
                f"T = {heat:g}: {_name(best)} ({best.drafter}) is {found.value:.2f}x{ends} as fast as transformers' assisted generation"
            )
    return said


def _noise(rows: Sequence[ReportRow]) -> list[str]:
    """The rows whose speed the clock cannot tell from plain decoding's, in words."""
    found: dict[float, list[str]] = {}
    for row in main(rows):
        low, high = row.speedup_vs_autoregressive_low, row.speedup_vs_autoregressive_high
        if row.drafted_here and low is not None and high is not None and low <= 1 <= high:
            found.setdefault(row.temperature, []).append(f"{_name(row)} ({row.drafter})")
    return [
        f"T = {heat:g}: the clock cannot tell these from plain decoding: {', '.join(names)}"
        for heat, names in found.items()
    ]


def main(rows: Sequence[ReportRow]) -> list[ReportRow]:
    """Plain decoding, every sampler on the packaged drafter, and one reference for each other drafter and temperature."""
    # The reference stands first; a sampler that the package cannot run is shown with the drafter that can.
    packaged = {(row.sampler, row.temperature) for row in rows if row.drafter == PACKAGE}
    kept, seen = [], set()
    for row in rows:
        place = row.temperature, row.drafter
        own = row.drafter in (None, PACKAGE) and row.preset in (None, row.sampler)
        alone = row.drafter == UNPRUNED and (row.sampler, row.temperature) not in packaged
        own = own or row.executor == TRANSFORMERS
        if own or place not in seen or alone:
            kept.append(row)
        seen.add(place)
    return kept


def _distributed(rows: Sequence[ReportRow]) -> list[str]:
    """On how many devices the distributed rows were measured, and what one device made."""
    found = [row for row in rows if row.executor == DISTRIBUTED and row.devices]
    if not found:
        return []
    best = max(found, key=_speed)
    return [
        f"distributed: drafter and target servers on {best.devices} device{'' if best.devices == 1 else 's'}; the fastest, "
        f"{best.sampler} at T = {best.temperature:g}: {fixed(best.tokens_per_second, 1)} tokens/s, "
        f"{fixed(best.tokens_per_second_per_device, 1)} per device"
    ]


def _proof(report: Report) -> list[str]:
    """What the column `lossless` does not say."""
    said = []
    if report.certificate_shipped:
        said.append(
            "lossless: by the certificate that came with exactly this code; `make lossless` proves it again here"
        )
    if open_ := sorted({str(row.sampler) for row in report.rows if row.lossless == "not proven"}):
        said.append(f"unproven: {', '.join(open_)}: no certificate of exactly this code; `make lossless` makes one")
    said += _lossy(report.rows)
    if bent := report.not_applied:
        named = ", ".join(f"{name}={value}" for name, value in bent.items())
        said.append(f"not applied, neither in plain decoding nor here: {named} of the target's generation config")
    return said


def _lossy(rows: Sequence[ReportRow]) -> list[str]:
    return [f"LOSSY: {row.sampler} at T = {row.temperature:g}: {row.lossy}" for row in rows if row.lossy]


def _cells(row: ReportRow, wide: bool) -> list[str]:
    return [
        f"{row.temperature:g}",
        "(AR)" if row.plain else _name(row),
        NONE if row.drafter is None else f"{row.drafter} {_thousands(row.kept or 0)}" if wide else row.drafter,
        NONE if row.nodes is None else str(row.nodes),
        _rate(row),
        fixed(row.tokens_per_forward or row.block_efficiency, 2),
        fixed(row.tokens_per_second, 1),
        NONE if row.plain else _with_interval(row, "speedup_vs_autoregressive", "x"),
        NONE if row.lossless is None else SHORT.get(row.lossless, row.lossless),
    ]


def _name(row: ReportRow) -> str:
    """The sampler, and the executor where it is not the usual one."""
    return str(row.name) if row.executor == SPECULATIVE else f"{row.name} {row.executor}"


def _rate(row: ReportRow) -> str:
    """The expected acceptance of a draft; for drafts of text, where p and q do not give it, the measured one after a ~."""
    if row.acceptance is not None:
        return _with_interval(row, "acceptance", digits=3)
    measured = _with_interval(row, "acceptance_rate")
    return measured if measured == NONE else f"~{measured}"


def _with_interval(row: ReportRow, name: str, unit: str = "", digits: int = 2) -> str:
    """The value and half the width of its interval."""
    found = row.estimate(name)
    if found is None or found.low is None or found.high is None:
        return fixed(None if found is None else found.value, digits, unit)
    half = (found.high - found.low) / 2
    digits = decimals(0.0, half, digits)
    return f"{fixed(found.value, digits, unit)} ±{half:.{digits}f}".replace("±0.", "±.")


def _thousands(count: int) -> str:
    return f"{count:,}" if count < 1_000_000 else f"{count / 1e6:.1f}M"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f} ms"


def _speed(row: ReportRow) -> float:
    return row.tokens_per_second or 0.0
