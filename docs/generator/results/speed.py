"""Ratios of tokens per second."""

from __future__ import annotations

from typing import Any

from docs.generator.markdown import ratio, table
from docs.generator.results.files import TEMPERATURES, load


def speeds() -> str:
    """Plain and speculative decoding beside transformers, compiled and not."""
    rows: list[list[str]] = []
    for name, said in (("bench_engine.json", "compiled"), ("bench_engine_uncompiled.json", "not compiled")):
        found = load(name)
        heat, length = found["temperatures"], found["options"]["length"]
        best = " / ".join(heat[t]["best"].replace("_", " ") for t in TEMPERATURES)
        rows += [
            [f"{said}: plain decoding over transformers' `generate`", *_each(heat, "vs_transformers_generate")],
            [
                f"{said}: speculative over its assisted generation, same drafter, {length} drafts",
                *_each(heat, "vs_transformers_assisted"),
            ],
            [f"{said}: the same, ours with the packaged drafter", *_each(heat, "packaged_vs_transformers_assisted")],
            [f"{said}: best static length ({best}) over our own plain decoding", *_each(heat, "vs_autoregressive")],
            [
                f"{said}: the same, of the ideal speed-up from acceptance and single forwards' costs",
                *(f"{100 * heat[t]['share_of_ideal']:.0f} %" for t in TEMPERATURES),
            ],
        ]
    passed = load("bench_engine.json")["gate"]["assisted_foreign"]["passes"]
    rows.append(
        ["transformers' cross-tokenizer sampling has the target's distribution", "-", "yes" if passed else "no"]
    )
    return table(["", "T = 0", "T = 1"], rows)


def _each(heat: Any, name: str) -> list[str]:
    return [ratio(heat[t][name]) for t in TEMPERATURES]
