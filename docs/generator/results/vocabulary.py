"""Acceptance by the share of kept tokens."""

from __future__ import annotations

from docs.generator.markdown import table
from docs.generator.results.files import load


def curve(share: float, temperature: float = 1.0) -> list[dict[str, str]]:
    """The rows of one kept share at one temperature."""
    rows = load("curve_pycode.csv")
    return [
        row for row in rows if float(row["temperature"]) == temperature and abs(float(row["kept_share"]) - share) < 1e-3
    ]


def sizes() -> str:
    """One row per kept share, one column per way to give probability back."""
    shares = sorted({round(float(row["kept_share"]), 2) for row in load("curve_pycode.csv")} - {1.0}, reverse=True)
    made = []
    for share in shares:
        rows = {row["method"]: row for row in curve(share)}
        free = max(
            (row for name, row in rows.items() if name.startswith("tail_free")),
            key=lambda row: float(row["tokens_per_second"]),
        )
        trained, healed = rows["tail_trained"], rows["tail_distilled"]
        made.append(
            [
                f"{100 * share:.0f} %",
                *(f"{float(rows[name]['acceptance']):.3f}" for name in ("tli", "rdk")),
                f"{float(free['acceptance']):.3f} ({free['method'].removeprefix('tail_free_').replace('_top', ', likeliest ')})",
                f"{100 * float(free['head_share']):.0f} %",
                *(f"{float(item['acceptance']):.3f}" for item in (trained, healed)),
                f"{100 * float(trained['head_share']):.0f} %",
            ]
        )
    full = float(curve(1.0)[0]["acceptance"])
    head = [
        "kept",
        "tli",
        "rdk",
        "tail, training-free (rank)",
        "its head",
        "tail, trained",
        "kept rows healed, too",
        "head",
    ]
    return f"The unpruned drafter has {full:.3f}.\n\n{table(head, made)}"
