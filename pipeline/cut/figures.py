"""What a cut is worth: acceptance and agreement with their intervals, as values and in words."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from eval.stats.bootstrap import interval

DEFINITIONS = {
    "acceptance": "mean of sum_x min(p(x), q(x)) over the tokens of answers to unseen prompts, whole vocabulary, at the temperature "
    "given; intervals of 95 % resample documents",
    "agreement": "share of those tokens for which target and drafter have the same likeliest token",
    "minutes": "on a CPU those it computed, per thread",
}
Figures = Mapping[str, Mapping[str, float | None]]


def figures(rows: Tensor) -> Figures:
    """Return name -> mean, low, high of 95 %, of the rows of `pipeline.cut.training.measured`; no interval of one document."""
    found: dict[str, dict[str, float | None]] = {}
    for column, name in ((1, "acceptance"), (2, "agreement")):
        tokens, hits = rows[:, 0], rows[:, column]
        low, high = interval(lambda n, k: k / n, tokens.numpy(), hits.numpy())
        found[name] = {"mean": float(hits.sum() / tokens.sum()), "low": low, "high": high}
    return found


def in_words(found: Figures) -> str:
    """Return the figures as a part of a sentence."""
    return ", ".join(f"{name} {row['mean']:.3f} ({_range(row)})" for name, row in found.items())


def _range(row: Mapping[str, float | None]) -> str:
    return "of one document" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
