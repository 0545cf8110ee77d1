"""The report on the terminal: one row per temperature, sampler and drafter; 80 columns are enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eval.report.terminal.comparisons import comparisons
from eval.run.records import AUTOREGRESSIVE, DISTRIBUTED, PACKAGE, SPECULATIVE, UNPRUNED

WIDE = 100  # columns of the terminal from which there is room between the table's
NONE = "-"
COLUMNS = (
    ("T", "right"),
    ("sampler", "left"),
    ("drafter", "left"),
    ("acceptance\n(95 %)", "left"),
    ("tokens per\nforward", "right"),
    ("tokens\n/s", "right"),
    ("over plain\n(95 %)", "left"),
    ("lossless", "left"),
)
SHORT = {"not proven": "unproven", "lossy": "LOSSY"}


def table(report: Mapping[str, Any], wide: bool) -> Table:
    """The main rows; a gap between temperatures, the fastest row of each temperature in bold."""
    made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0) if wide else 0, show_edge=False, title_justify="left")
    made.title = _title(report)
    for name, justify in COLUMNS:
        made.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    rows = main(report["rows"])
    best = {row["temperature"]: max(_speed(other) for other in rows if _at(other, row)) for row in rows}
    for number, row in enumerate(rows):
        last = number + 1 < len(rows) and rows[number + 1]["temperature"] != row["temperature"]
        fastest = row["tokens_per_second"] is not None and _speed(row) == best[row["temperature"]]
        made.add_row(*_cells(row, wide), end_section=last, style="bold" if fastest else None)
    return made


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print the table, what it does not hold (costs, whether greedy outputs are the target's own, coverage), and what to use.

    A report of few rows is printed for one screen of 80 columns.
    """
    few = report.get("selection") == "few"
    console.print(table(report, wide=console.width >= WIDE))
    for comparison in () if few else comparisons(report):
        console.print()
        console.print(Text(comparison.title, style="bold"))
        console.print(comparison.table())
        console.print(Text(comparison.sentence, style="italic"))
    for line in short_lines(report) if few else ["", *lines(report)]:
        console.print(Text(line), soft_wrap=True)
    if found := verdict(report, few):
        console.print(Text("What to use" if few else "\nWhat to use", style="bold"))
        for line in found:
            console.print(Text(line), soft_wrap=True)


def short_lines(report: Mapping[str, Any]) -> list[str]:
    """The least that must be said below the table."""
    greedy, prompts = report["greedy_identity"], report["prompts"]
    positions = max((row.get("text_positions") or 0 for row in report["rows"]), default=0)
    said = [
        f"AR: plain decoding. Expected on {positions:,} positions of the target's own text; clock: {prompts['count']} prompts"
    ]
    if greedy["outputs"]:
        ties = f", {greedy['ties']} ties" if greedy["ties"] else ""
        said.append(f"T = 0: {greedy['identical']} of {greedy['outputs']} outputs are plain greedy decoding's{ties}")
    said += _noise(report["rows"]) + _lossy(report["rows"])
    return said + [f"warning: {text}" for text in report.get("warnings") or ()]


def lines(report: Mapping[str, Any]) -> list[str]:
    """The sentences below the table."""
    costs, greedy = report["costs"], report["greedy_identity"]
    said = [_legend(report)]
    said += _noise(report["rows"])
    said.append(
        f"a target forward {_ms(costs['t'])}, a drafter forward {_ms(costs['d_full'])} unpruned, "
        f"{_ms(costs['d_pruned'])} packaged: c = {costs['c']:.2f}"
    )
    if greedy["outputs"]:
        said.append(
            f"T = 0: {greedy['identical']} of {greedy['outputs']} outputs identical to plain greedy decoding, "
            f"{greedy['ties']} ties, {greedy['different']} different"
        )
    said += _distributed(report["rows"])
    said += _proof(report)
    if hidden := len(report["rows"]) - len(main(report["rows"])):
        said.append(f"{hidden} further rows (other drafters, variants of samplers) are in report.csv")
    said.append(coverage_line(report))
    said += report.get("held_out_said") or ()
    said += [f"warning: {text}" for text in report.get("warnings") or ()]
    return said


def verdict(report: Mapping[str, Any], short: bool = False) -> list[str]:
    """What to use, a line per temperature; nothing where there was no verdict."""
    choices = report.get("verdict") or ()
    return [f"T = {choice['temperature']:g}: {_in_short(choice) if short else choice['reason']}" for choice in choices]


def _in_short(choice: Mapping[str, Any]) -> str:
    if choice["use"]["sampler"] is None:
        return str(choice["reason"])
    speed = choice["speedup"]
    gain = f"{speed['ratio']:.2f}x plain ({speed['low']:.2f}-{speed['high']:.2f}) on {choice['prompts']} unseen prompts"
    following = [f"; next {_use(item['use'])}: {item['speedup']['ratio']:.2f}x" for item in choice["next"][:1]]
    return f"{_use(choice['use'])}: {gain}{''.join(following)}"


def _use(use: Mapping[str, Any]) -> str:
    drafts = f"{use['length']} a round" if use["stop"] == "static" else f"stop policy {use['stop']}"
    return f"{use['sampler']} on {use['form']}, {drafts}"


def _legend(report: Mapping[str, Any]) -> str:
    prompts = report["prompts"]
    positions = max((row.get("text_positions") or 0 for row in report["rows"]), default=0)
    timed = f"by the clock on {prompts['count']} prompts of {prompts['suite']}, up to {prompts['max_new_tokens']} tokens each"
    if not positions:
        return f"AR: plain autoregressive decoding; {timed}, one request at a time"
    return (
        f"AR: plain autoregressive decoding. Acceptance and tokens per forward: expected, on {positions:,} positions of the target's "
        f"own text; speed: {timed}, one request at a time"
    )


def _noise(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows whose speed the clock cannot tell from plain decoding's, in words."""
    found: dict[float, list[str]] = {}
    for row in main(rows):
        low, high = row.get("speedup_vs_autoregressive_low"), row.get("speedup_vs_autoregressive_high")
        if row["executor"] != AUTOREGRESSIVE and low is not None and high is not None and low <= 1 <= high:
            found.setdefault(row["temperature"], []).append(f"{_name(row)} ({row['drafter']})")
    return [
        f"T = {heat:g}: the clock cannot tell these from plain decoding: {', '.join(names)}"
        for heat, names in found.items()
    ]


def main(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Plain decoding, every sampler on the packaged drafter, and one reference for each other drafter and temperature."""
    kept, seen = [], set()
    for row in rows:
        name = row["temperature"], row["drafter"]
        own = row["drafter"] in (None, PACKAGE) and row.get("preset") in (None, row["sampler"])
        # The reference stands first; a sampler that the package cannot run is shown with the drafter that can.
        packaged = {(other["sampler"], other["temperature"]) for other in rows if other["drafter"] == PACKAGE}
        alone = row["drafter"] == UNPRUNED and (row["sampler"], row["temperature"]) not in packaged
        if own or name not in seen or alone:
            kept.append(row)
        seen.add(name)
    return kept


def _distributed(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """On how many devices the distributed rows were measured, and what one device made."""
    found = [row for row in rows if row["executor"] == DISTRIBUTED and row.get("devices")]
    if not found:
        return []
    best = max(found, key=_speed)
    devices = best["devices"]
    return [
        f"distributed: drafter and target servers on {devices} device{'s' if devices > 1 else ''}; the fastest, {best['sampler']} at "
        f"T = {best['temperature']:g}: {_number(best['tokens_per_second'], 1)} tokens/s, "
        f"{_number(best['tokens_per_second_per_device'], 1)} per device"
    ]


def _proof(report: Mapping[str, Any]) -> list[str]:
    """What the column `lossless` does not say."""
    rows = report["rows"]
    said = []
    if report.get("certificate_shipped"):
        said.append(
            "lossless: by the certificate that came with exactly this code; `make lossless` proves it again here"
        )
    if open_ := sorted({str(row["sampler"]) for row in rows if row.get("lossless") == "not proven"}):
        said.append(f"unproven: {', '.join(open_)}: no certificate of exactly this code; `make lossless` makes one")
    said += _lossy(rows)
    if bent := report.get("not_applied"):
        named = ", ".join(f"{name}={value}" for name, value in bent.items())
        said.append(f"not applied, neither in plain decoding nor here: {named} of the target's generation config")
    return said


def _lossy(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"LOSSY: {row['sampler']} at T = {row['temperature']:g}: {row['lossy']}" for row in rows if row.get("lossy")
    ]


def coverage_line(report: Mapping[str, Any]) -> str:
    """How much of the drafter's vocabulary was kept, and how much of the target's text that covers."""
    return (
        f"{report['kept']:,} of {report['drafter_vocabulary']:,} tokens kept, "
        f"{100 * report['coverage']:.1f} % of target text covered"
    )


def _cells(row: Mapping[str, Any], wide: bool) -> list[str]:
    plain = row["executor"] == AUTOREGRESSIVE
    proof = row.get("lossless")
    return [
        f"{row['temperature']:g}",
        "(AR)" if plain else _name(row),
        NONE if plain else f"{row['drafter']} {_thousands(row['kept'])}" if wide else row["drafter"],
        _rate(row),
        _number(row.get("tokens_per_forward") or row["block_efficiency"], 2),
        _number(row["tokens_per_second"], 1),
        NONE if plain else _with_interval(row, "speedup_vs_autoregressive", "x"),
        NONE if proof is None else SHORT.get(proof, proof),
    ]


def _name(row: Mapping[str, Any]) -> str:
    """The sampler, and the executor where it is not the usual one."""
    name = str(row.get("preset") or row["sampler"])
    return name if row["executor"] == SPECULATIVE else f"{name} {row['executor']}"


def _rate(row: Mapping[str, Any]) -> str:
    """The expected acceptance of a draft; for drafts of text, where p and q do not give it, the measured one after a ~."""
    if row.get("acceptance") is not None:
        return _with_interval(row, "acceptance", digits=3)
    measured = _with_interval(row, "acceptance_rate")
    return measured if measured == NONE else f"~{measured}"


def _with_interval(row: Mapping[str, Any], name: str, unit: str = "", digits: int = 2) -> str:
    """The value and half the width of its interval."""
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    middle = _number(row[name], digits, unit)
    return middle if low is None or high is None else f"{middle} ±{(high - low) / 2:.{digits}f}".replace("±0.", "±.")


def _number(value: float | None, digits: int, unit: str = "") -> str:
    return NONE if value is None else f"{value:,.{digits}f}{unit}"


def _thousands(count: int) -> str:
    return f"{count:,}" if count < 1_000_000 else f"{count / 1e6:.1f}M"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f} ms"


def _title(report: Mapping[str, Any]) -> str:
    return f"{report['pair']} on {report['device']}, {report['dtype']}"


def _at(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(row["temperature"] == other["temperature"])


def _speed(row: Mapping[str, Any]) -> float:
    return row["tokens_per_second"] or 0.0
