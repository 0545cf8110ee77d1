"""The whole page."""

from __future__ import annotations

from docs.generator.markdown import page as as_page
from docs.generator.results import parts, proof, real_pair, speed, stop_policies, vocabulary
from docs.generator.results.notes import INTRODUCTION, NOTES


def page() -> str:
    """The whole page."""
    measured = real_pair.parts()
    real = ["## A real pair", NOTES["real"], *measured] if measured else []
    return as_page(
        "Results",
        INTRODUCTION,
        *real,
        "## Speed",
        NOTES["speed"],
        speed.speeds(),
        NOTES["compiled"],
        "## What the parts cost",
        NOTES["parts"],
        parts.costs(),
        "## How much vocabulary to keep",
        NOTES["vocabulary"],
        vocabulary.sizes(),
        "## When to stop drafting",
        NOTES["stop"],
        stop_policies.gains_table(),
        NOTES["gap"],
        stop_policies.policies_table(),
        "## Losslessness",
        NOTES["lossless"],
        proof.samplers(),
        proof.outputs(),
    )
