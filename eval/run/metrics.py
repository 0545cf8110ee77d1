"""From records to rates, speeds and their intervals; nothing to divide by is None.

Counts are sums over the prompts of the first repeat: a repeat takes the same random decisions again and adds timings
only. Intervals are 95 % percentile bootstraps over prompts, the unit that the results are to be carried over to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from eval.run.records import Configuration, Record
from eval.stats.bootstrap import Vector, interval

COUNTS = ("accepted", "verified", "drafted", "target_forwards", "tokens")


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % bootstrap interval; None for fewer than two prompts or texts."""

    value: float
    low: float | None
    high: float | None


def acceptance_rate(accepted: float, verified: float) -> float | None:
    """Accepted drafts / verified positions: a round's accepted ones and its first rejected one."""
    return accepted / verified if verified else None


def block_efficiency(tokens: float, target_forwards: float) -> float | None:
    """Tokens emitted per target forward: what is accepted, and the one token that each forward adds."""
    return tokens / target_forwards if target_forwards else None


def decimals(low: float, high: float, least: int) -> int:
    """Digits behind the point at which two different numbers print differently: `least`, and six at most."""
    apart = (digits for digits in range(least, 7) if f"{low:.{digits}f}" != f"{high:.{digits}f}")
    return next(apart, least)


@dataclass(frozen=True)
class Samples:
    """A configuration's measurements per prompt, each (P,), in the order of the prompts."""

    counts: Mapping[str, Vector]  # COUNTS, of the first repeat
    seconds: Vector  # median over repeats
    repeats: int

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens per second of all prompts together; None where no time was measured."""
        total = float(self.seconds.sum())
        return float(self.counts["tokens"].sum()) / total if total else None


def collect(records: Iterable[Record]) -> dict[Configuration, Samples]:
    """Samples of every configuration, in the order in which the configurations appear first.

    Raises ValueError where configurations were not measured on the same prompts: they could not be compared.
    """
    found: dict[Configuration, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for item in records:
        found[item.configuration][item.prompt].append(item)
    if not found:
        raise ValueError("records: expected at least one, got none; run stage=eval with at least one prompt.")
    order = list(next(iter(found.values())))
    for configuration, by_prompt in found.items():
        if set(by_prompt) != set(order):
            raise ValueError(
                f"{configuration} was measured on {len(by_prompt)} prompts, expected the same {len(order)} as the first "
                "row; delete the partial directory of this run and start stage=eval again."
            )
    return {configuration: _samples([by_prompt[name] for name in order]) for configuration, by_prompt in found.items()}


def _samples(prompts: list[list[Record]]) -> Samples:
    first = [min(repeats, key=lambda item: item.repeat) for repeats in prompts]
    counts = {name: np.array([getattr(item, name) for item in first], dtype=np.float64) for name in COUNTS}
    seconds = np.array([np.median([item.seconds for item in repeats]) for repeats in prompts])
    return Samples(counts, seconds, max(len(repeats) for repeats in prompts))


def speedup(own: Samples, base: Samples) -> Estimate | None:
    """Ratio of tokens per second on the same prompts; None where one of them has no tokens or seconds."""
    if not own.tokens_per_second or not base.tokens_per_second:
        return None
    low, high = interval(
        lambda tokens, seconds, base_tokens, base_seconds: tokens / seconds * base_seconds / base_tokens,
        own.counts["tokens"],
        own.seconds,
        base.counts["tokens"],
        base.seconds,
    )
    return Estimate(own.tokens_per_second / base.tokens_per_second, low, high)
