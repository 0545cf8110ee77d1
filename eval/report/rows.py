"""From records and costs to the figures of the report. Every ratio stands beside the counts it is made of; nothing to divide by is None."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from eval.costs.forwards import Costs
from eval.report.row import ReportRow
from eval.report.schema import DraftPrice, FailedOutput, ForwardCosts, GreedyIdentity, VerifyPrice
from eval.run.metrics import COUNTS, Estimate, Samples, acceptance_rate, block_efficiency, collect, speedup
from eval.run.records import (
    AUTOREGRESSIVE,
    DIFFERENT,
    IDENTICAL,
    PACKAGE,
    TIE,
    TRANSFORMERS,
    UNPRUNED,
    Configuration,
    Record,
)
from eval.stats.bootstrap import interval


def rows(records: Iterable[Record], reference: str, devices: Mapping[str, int] | None = None) -> list[ReportRow]:
    """The report's rows, sorted by temperature, with what was counted and timed.

    Args:
        reference: the sampler that the unpruned drafter is compared with.
        devices: of each executor, 1 where it is not said.
    """
    samples = collect(records)
    plain = {key.temperature: value for key, value in samples.items() if key.executor == AUTOREGRESSIVE}
    unpruned: dict[float, Samples] = {}
    for key, value in samples.items():  # the first of its kind: the others are further stop policies and executors
        if key.drafter == UNPRUNED and key.sampler == reference and key.executor != AUTOREGRESSIVE:
            unpruned.setdefault(key.temperature, value)
    made = [
        _row(
            key, value, plain.get(key.temperature), unpruned.get(key.temperature), (devices or {}).get(key.executor, 1)
        ).with_estimates(speedup_vs_assisted=_over_assisted(key, value, samples))
        for key, value in samples.items()
    ]
    return sorted(made, key=lambda row: row.temperature)


def _over_assisted(key: Configuration, own: Samples, every: Mapping[Configuration, Samples]) -> Estimate | None:
    """Over the faster of transformers' assisted generations; None without one, and for its own rows."""
    theirs = [
        value
        for other, value in every.items()
        if other.executor == TRANSFORMERS and other.drafter == UNPRUNED and other.temperature == key.temperature
    ]
    if not theirs or key.executor == TRANSFORMERS:
        return None
    return speedup(own, max(theirs, key=lambda value: value.tokens_per_second or 0.0))


def _row(key: Configuration, own: Samples, plain: Samples | None, unpruned: Samples | None, devices: int) -> ReportRow:
    accepted, verified, drafted, forwards, tokens = (int(own.counts[name].sum()) for name in COUNTS)
    low, high = interval(np.divide, own.counts["accepted"], own.counts["verified"])
    efficiency_low, efficiency_high = interval(np.divide, own.counts["tokens"], own.counts["target_forwards"])
    row = ReportRow(
        **vars(key),
        accepted=accepted,
        verified=verified,
        drafted=drafted,
        target_forwards=forwards,
        tokens=tokens,
        acceptance_rate=acceptance_rate(accepted, verified),
        acceptance_rate_low=low,
        acceptance_rate_high=high,
        block_efficiency=block_efficiency(tokens, forwards),
        block_efficiency_low=efficiency_low,
        block_efficiency_high=efficiency_high,
        tokens_per_second=own.tokens_per_second,
        speedup_vs_autoregressive=None,
        speedup_vs_unpruned=None,
        seconds=float(own.seconds.sum()),
        prompts=len(own.seconds),
        repeats=own.repeats,
        devices=devices,
        tokens_per_second_per_device=None if own.tokens_per_second is None else own.tokens_per_second / devices,
    )
    drafts = key.executor != AUTOREGRESSIVE
    return row.with_estimates(
        speedup_vs_autoregressive=None if plain is None else speedup(own, plain),
        speedup_vs_unpruned=speedup(own, unpruned) if drafts and unpruned is not None else None,
    )


def greedy_identity(records: Iterable[Record], exact: bool) -> GreedyIdentity:
    """How many greedy outputs equal plain decoding's.

    Where arithmetic is `exact` (fp32) every difference that is no tie is an error; other precisions differ between
    forwards of one and of several tokens, so there nothing is required.
    """
    found = [item for item in records if item.repeat == 0 and item.greedy is not None]
    identical, ties, different = (sum(item.greedy == name for item in found) for name in (IDENTICAL, TIE, DIFFERENT))
    failed = sorted({(str(item.configuration.sampler), item.prompt) for item in found if item.greedy == DIFFERENT})
    status = "error" if different else "ok"
    return GreedyIdentity(
        status=status if exact else "not required",
        outputs=len(found),
        prompts=len({item.prompt for item in found}),
        identical=identical,
        ties=ties,
        different=different,
        failed=tuple(FailedOutput(*item) for item in failed),
    )


def prices(costs: Costs) -> ForwardCosts:
    """The report's entry `costs`: medians in seconds, with quartiles for each number of tokens and each drafter."""
    full, pruned = costs.drafters[UNPRUNED], costs.drafters[PACKAGE]
    return ForwardCosts(
        t=costs.t,
        d_full=full.median,
        d_pruned=pruned.median,
        c=pruned.median / costs.t,
        c_full=full.median / costs.t,
        context=costs.context,
        runs=full.runs,
        t_n=tuple(VerifyPrice(n, own.median, own.low, own.high) for n, own in costs.target.items()),
        d=tuple(DraftPrice(name, own.median, own.low, own.high) for name, own in costs.drafters.items()),
    )
