"""From records to the rows of the report. Every ratio stands beside the counts it is made of; nothing to divide by is None.

Counts are sums over the prompts of the first repeat: a repeat takes the same random decisions again and adds timings
only. Intervals are 95 % percentile bootstraps over prompts, the unit that the results are to be carried over to.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.run.records import AUTOREGRESSIVE, UNPRUNED, Configuration, Record

Vector = NDArray[np.float64]
Row = dict[str, Any]

RESAMPLES = 2000
LEVEL = 0.95
COUNTS = ("accepted", "verified", "drafted", "target_forwards", "tokens")
DEFINITIONS = {
    "acceptance_rate": "accepted / verified; positions behind a round's first rejection are drafted, not verified",
    "block_efficiency": "tokens / target_forwards; the forward over the prompt is not counted",
    "tokens_per_second": "tokens / seconds at one request at a time; seconds = sum over prompts of the median over "
    "repeats, reading the prompt included",
    "speedup_vs_autoregressive": "ratio of tokens_per_second to plain decoding's at the same temperature",
    "speedup_vs_unpruned": "ratio of tokens_per_second to that of the pair's unpruned drafter, sampler standard "
    "(tli where the vocabularies differ), at the same temperature",
    "speedup_by_costs": "block_efficiency * t(1) / (g * d + t(g + 1)), g = drafted / target_forwards: the speed-up if "
    "forwards were all the work",
    "low, high": "95 % percentile bootstrap over prompts",
}


def acceptance_rate(accepted: float, verified: float) -> float | None:
    """Accepted drafts / verified positions: a round's accepted ones and its first rejected one."""
    return accepted / verified if verified else None


def block_efficiency(tokens: float, target_forwards: float) -> float | None:
    """Tokens emitted per target forward: what is accepted, and the one token that each forward adds."""
    return tokens / target_forwards if target_forwards else None


def interval(ratio: Callable[..., Vector], *samples: Vector, seed: int = 0) -> tuple[float | None, float | None]:
    """Bootstrap interval of a function of sums over prompts; `samples` are (P,) each and are resampled together.

    (None, None) for fewer than two prompts, or where no resample has a finite value.
    """
    count = len(samples[0])
    if count < 2:
        return None, None
    weight = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES)  # (R, P)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = ratio(*(weight @ sample for sample in samples))  # (R,)
    values = values[np.isfinite(values)]
    if not len(values):
        return None, None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Samples:
    """A configuration's measurements per prompt, each (P,), in the order of the prompts."""

    counts: Mapping[str, Vector]  # COUNTS, of the first repeat
    seconds: Vector  # median over repeats
    repeats: int

    @property
    def tokens_per_second(self) -> float | None:
        """Of all prompts together."""
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


def rows(records: Iterable[Record], reference: str) -> list[Row]:
    """The report's rows, sorted by temperature. `reference` is the sampler that the unpruned drafter is compared with."""
    samples = collect(records)
    plain = {key.temperature: value for key, value in samples.items() if key.executor == AUTOREGRESSIVE}
    unpruned: dict[float, Samples] = {}
    for key, value in samples.items():  # the first of its kind: the others are further stop policies and executors
        if key.drafter == UNPRUNED and key.sampler == reference and key.executor != AUTOREGRESSIVE:
            unpruned.setdefault(key.temperature, value)
    made = [
        _row(key, value, plain.get(key.temperature), unpruned.get(key.temperature)) for key, value in samples.items()
    ]
    return sorted(made, key=lambda row: row["temperature"])


def _row(key: Configuration, own: Samples, plain: Samples | None, unpruned: Samples | None) -> Row:
    totals = {name: int(values.sum()) for name, values in own.counts.items()}
    accepted, verified = own.counts["accepted"], own.counts["verified"]
    low, high = interval(np.divide, accepted, verified)
    efficiency_low, efficiency_high = interval(np.divide, own.counts["tokens"], own.counts["target_forwards"])
    row = {
        **dataclasses.asdict(key),
        **totals,
        "acceptance_rate": acceptance_rate(totals["accepted"], totals["verified"]),
        "acceptance_rate_low": low,
        "acceptance_rate_high": high,
        "block_efficiency": block_efficiency(totals["tokens"], totals["target_forwards"]),
        "block_efficiency_low": efficiency_low,
        "block_efficiency_high": efficiency_high,
        "tokens_per_second": own.tokens_per_second,
        **_speedup("speedup_vs_autoregressive", own, plain),
        **_speedup("speedup_vs_unpruned", own, unpruned if key.executor != AUTOREGRESSIVE else None),
        "seconds": float(own.seconds.sum()),
        "prompts": len(own.seconds),
        "repeats": own.repeats,
    }
    return row


def _speedup(name: str, own: Samples, base: Samples | None) -> Row:
    found = None if base is None else speedup(own, base)
    return dict(zip((name, f"{name}_low", f"{name}_high"), found or (None, None, None), strict=True))


def speedup(own: Samples, base: Samples) -> tuple[float, float | None, float | None] | None:
    """Ratio of tokens per second on the same prompts, with its interval; None where one of them has no tokens or seconds."""
    if not own.tokens_per_second or not base.tokens_per_second:
        return None
    low, high = interval(
        lambda tokens, seconds, base_tokens, base_seconds: tokens / seconds * base_seconds / base_tokens,
        own.counts["tokens"],
        own.seconds,
        base.counts["tokens"],
        base.seconds,
    )
    return own.tokens_per_second / base.tokens_per_second, low, high


def per_device(rows: Iterable[Row], devices: Mapping[str, int]) -> None:
    """Add the fields `devices` and `tokens_per_second_per_device`. `devices`: by executor, 1 where it is not said."""
    for row in rows:
        row["devices"] = devices.get(row["executor"], 1)
        speed = row["tokens_per_second"]
        row["tokens_per_second_per_device"] = None if speed is None else speed / row["devices"]


def greedy_identity(records: Iterable[Record], exact: bool) -> Row:
    """How many greedy outputs equal plain decoding's.

    Where arithmetic is `exact` (fp32) every difference that is no tie is an error; other precisions differ between
    forwards of one and of several tokens, so there nothing is required.
    """
    verdicts = [item for item in records if item.repeat == 0 and item.greedy is not None]
    count = {name: sum(item.greedy == name for item in verdicts) for name in ("identical", "tie", "different")}
    failed = sorted({(str(item.configuration.sampler), item.prompt) for item in verdicts if item.greedy == "different"})
    status = "error" if count["different"] else "ok"
    return {
        "status": status if exact else "not required",
        "outputs": len(verdicts),
        "prompts": len({item.prompt for item in verdicts}),
        "identical": count["identical"],
        "ties": count["tie"],
        "different": count["different"],
        "failed": [{"sampler": sampler, "prompt": prompt} for sampler, prompt in failed],
    }
