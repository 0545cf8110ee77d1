"""What stop policies gain."""

from __future__ import annotations

from docs.generator.markdown import table
from docs.generator.results.files import load


def gains(suite: str, temperature: float) -> dict[str, str]:
    """Policy -> its speed over the best constant length, in percent with the 95 % interval."""
    replayed = load("train_disco.json")["replayed"]
    found = next(item for item in replayed if (item["suite"], item["temperature"]) == (suite, temperature))
    return {name: _gain(*values) for name, values in found["gain_over_static"].items()}


def _gain(value: float, low: float, high: float) -> str:
    return f"{100 * value:+.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def gains_table() -> str:
    """Every trained policy over the best constant length."""
    found = load("train_disco.json")
    names = list(found["replayed"][0]["gain_over_static"])
    rows = [
        [item["suite"], f"{item['temperature']:g}", *(_gain(*item["gain_over_static"][name]) for name in names)]
        for item in found["replayed"]
    ]
    lengths = ", ".join(f"{tuned['static']} drafts at T = {heat}" for heat, tuned in found["tuned"].items())
    return f"The best constant length, tuned on validation text: {lengths}.\n\n{table(['', 'T', *names], rows)}"


def policies_table() -> str:
    """All policies on held-out traces: by prices, and by the clock."""
    found = load("train_disco.json")
    ran = {(item["temperature"], item["policy"]): item["clock_speed"] for item in found["ran"]}
    first = {item["temperature"]: item["rows"] for item in found["replayed"] if item["suite"] == "held-out traces"}
    rows = []
    for heat, policies in first.items():
        for row in policies:
            clock, gap = ran.get((heat, row["policy"])), row["gap_closed"]
            shown = "-" if gap is None else f"{100 * gap:.0f} %"
            rows.append(
                [
                    f"{heat:g}",
                    row["policy"],
                    f"{row['speed']:.2f}",
                    f"{row['drafted_per_round']:.1f}",
                    shown,
                    "-" if clock is None else f"{clock:.2f}x",
                ]
            )
    return table(
        ["T", "policy", "speed", "drafts a round", "of the way to the oracle", "by the clock over plain"], rows
    )
