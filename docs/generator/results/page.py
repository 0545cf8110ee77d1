"""The whole page."""

from __future__ import annotations

from docs.generator.markdown import page as as_page
from docs.generator.results import parts, proof, speed, stop_policies, vocabulary
from docs.generator.results.notes import INTRODUCTION, NOTES


def page() -> str:
    """The whole page."""
    return as_page(
        "Results",
        INTRODUCTION,
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
