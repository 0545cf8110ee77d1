"""The policies' table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from eval.stop.policy_comparison import ORACLE


def show_report(report: Mapping[str, Any], console: Console) -> None:
    """Print one table per suite and temperature, what was really run beside it, and the classifier's calibration."""
    ran = {(row["temperature"], row["policy"]): row for row in report["ran"]}
    timed = report["timed_suite"]
    for part in report["replayed"]:
        temperature = part["temperature"]
        clock = {name: row for (t, name), row in ran.items() if t == temperature and part["suite"] == timed}
        console.print(_table(part, clock, report["tuned"][f"{temperature:g}"]["static"]))
        for name, (gain, low, high) in part["gain_over_static"].items():
            console.print(
                f"{name}: {gain:+.1%} over the best static length by cost (95 % {low:+.1%} to {high:+.1%})",
                highlight=False,
            )
    prices = report["prices"]
    console.print(
        f"\na target forward {1e3 * prices['target']['1']:.2f} ms, a drafter forward {1e3 * prices['drafter']:.2f} ms, a decision "
        f"{1e3 * prices['stop']:.3f} ms ({prices['stop'] / prices['drafter']:.1%} of a drafter forward); one more draft costs "
        f"c = {prices['c']:.3f} target forwards, its verification included",
        highlight=False,
        soft_wrap=True,
    )
    errors = ", ".join(f"T = {row['temperature']:g} {row['output']} {row['ece']:.3f}" for row in report["calibration"])
    console.print(f"expected calibration error on the test split: {errors}", highlight=False, soft_wrap=True)
    console.print(
        "speed: tokens per plain target forward's time, by measured costs, decisions included; gap: of the way from the best "
        "static length to the oracle, which knows what will be accepted; laws known: cost_aware told both laws' true chances "
        "(no bound on other rules); tok/fw: tokens per target forward; drafts: per round; wasted: "
        "share of them that did not become output; early: rounds that ended before they had to; tok/s: really run; vs AR: "
        "their median speed-up over plain decoding, prompt by prompt",
        highlight=False,
        soft_wrap=True,
    )


def _table(part: Mapping[str, Any], clock: Mapping[str | None, Mapping[str, Any]], static: int) -> Table:
    title = f"{part['suite']}, T = {part['temperature']:g}, {part['requests']} requests"
    found = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False
    )
    names = ("policy", "speed", "gap", "tok/fw", "drafts", "wasted", "early", "tok/s", "vs AR")
    for number, name in enumerate(names):
        found.add_column(name, justify="right" if number else "left", no_wrap=True, min_width=None if number else 19)
    for row in part["rows"]:
        name = f"static {static}, best" if row["policy"] == "static_tuned" else row["policy"]
        seen = clock.get(row["policy"])
        found.add_row(
            name,
            f"{row['speed']:.3f}",
            "-" if row["gap_closed"] is None or row["policy"] == ORACLE else f"{row['gap_closed']:+.0%}",
            f"{row['tokens_per_forward']:.2f}",
            f"{row['drafted_per_round']:.2f}",
            "-" if row["wasted"] is None else f"{row['wasted']:.0%}",
            f"{row['early']:.0%}",
            "-" if seen is None else f"{seen['tokens_per_second']:.1f}",
            "-" if seen is None else f"{seen['clock_speed']:.2f}x",
        )
    return found
