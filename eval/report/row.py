"""A row of report.json, and what its single rounds say.

A string below a field is what the report itself and docs/reference/report_fields.md say of it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from eval.run.metrics import Estimate
from eval.run.records import AUTOREGRESSIVE, TRANSFORMERS

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Key = tuple[float, str | None, str | None, str, str | None]


class _Keyed:
    """What rows, and whatever belongs to a row, are told apart by."""

    temperature: float
    drafter: str | None
    sampler: str | None
    preset: str | None
    executor: str
    stop: str | None

    @property
    def name(self) -> str | None:
        """The file of conf/sampler; None for plain decoding. Reports of before `preset` have its sampler alone."""
        return self.preset or self.sampler

    @property
    def identity(self) -> Key:
        """Equal for rows that measure the same thing. The number of kept tokens is a result, no part of it."""
        return self.temperature, self.drafter, self.name, self.executor, self.stop

    @property
    def plain(self) -> bool:
        """Whether this is plain autoregressive decoding."""
        return self.executor == AUTOREGRESSIVE

    @property
    def drafted_here(self) -> bool:
        """Whether this project's engine drafted and verified: neither plain decoding nor a row of transformers."""
        return self.executor not in (AUTOREGRESSIVE, TRANSFORMERS)


@dataclass(frozen=True, kw_only=True)
class ReportRow(_Keyed):
    """One configuration: counts and speed on the prompts, what its distributions let expect, what is proved of it."""

    sampler: str | None
    executor: str
    stop: str | None
    temperature: Amount
    kept: Count | None
    """rows of the drafter's head"""
    accepted: Count
    drafted: Count
    target_forwards: Count
    """forwards of the target but the one over the prompt: rounds"""
    tokens: Count
    """new ones"""
    acceptance_rate: Share | None
    """accepted / verified; positions behind a round's first rejection are drafted, not verified"""
    acceptance_rate_low: Share | None
    acceptance_rate_high: Share | None
    block_efficiency: Amount | None
    """tokens / target_forwards; the forward over the prompt is not counted"""
    tokens_per_second: Amount | None
    """tokens / seconds at one request at a time; seconds = sum over prompts of the median over repeats, reading the prompt included"""
    speedup_vs_autoregressive: Amount | None
    """ratio of tokens_per_second to plain decoding's at the same temperature"""
    speedup_vs_unpruned: Amount | None
    """ratio of tokens_per_second to that of the pair's unpruned drafter, sampler standard (tli where the vocabularies differ), at
    the same temperature"""
    verified: Count
    """drafted positions that were tested: the accepted ones of a round and its first rejected one"""
    drafter: str | None = None
    """unpruned, package, tail (the package's with its tail), or a name of eval.more_drafters"""
    preset: str | None = None
    """the file of conf/sampler; several may be of one sampler"""
    block_efficiency_low: Amount | None = None
    block_efficiency_high: Amount | None = None
    speedup_vs_autoregressive_low: Amount | None = None
    speedup_vs_autoregressive_high: Amount | None = None
    speedup_vs_unpruned_low: Amount | None = None
    speedup_vs_unpruned_high: Amount | None = None
    speedup_vs_assisted: Amount | None = None
    """ratio of tokens_per_second to transformers' assisted generation with the unpruned drafter (eval.peers, the faster of its rows),
    at the same temperature"""
    speedup_vs_assisted_low: Amount | None = None
    speedup_vs_assisted_high: Amount | None = None
    seconds: Amount | None = None
    prompts: Count | None = None
    repeats: Count | None = None
    devices: Count | None = None
    """that the row's executor takes"""
    tokens_per_second_per_device: Amount | None = None
    speedup_by_costs: Amount | None = None
    """block_efficiency * t(1) / (g * d + t(g + 1)), g = drafted / target_forwards: the speed-up if forwards were all the work"""
    nodes: Count | None = None
    """drafted tokens of the largest round"""
    law_rounds: Count | None = None
    """rounds whose distributions p and q were logged"""
    drafts_at_root: Count | None = None
    measured_at_root: float | None = None
    """share of law_rounds rounds of a short run in which one of the root's children was accepted"""
    expected_at_root: float | None = None
    """what the laws logged in those rounds let expect; z_at_root: the difference in standard errors"""
    z_at_root: float | None = None
    tampered_rounds: Count | None = None
    """rounds that were verified against another distribution than drafts were drawn from: the row is lossy"""
    excess_chance: float | None = None
    """at most this likely is it for a lossless verifier to accept as often as measured_at_root"""
    common_laws: Count | None = None
    expected_acceptance: float | None = None
    """the verifier's own probability on the same laws, by its formula (sampled for races of several drafts and for draws without
    replacement)"""
    optimal_acceptance: float | None = None
    """highest probability that any lossless verifier accepts one of drafts_at_root children of a node, for the way they are drawn;
    mean over common_laws laws (p, q) that are logged once per drafter and temperature"""
    gap_to_optimum: float | None = None
    """optimal_acceptance - expected_acceptance"""
    acceptance: float | None = None
    """expected: the chance that a draft at the head of a round is accepted (of a tree: that one of the root's children is), mean
    over text_positions positions of the target's own text; the same law gives the same number"""
    acceptance_low: float | None = None
    acceptance_high: float | None = None
    acceptance_gain: float | None = None
    """acceptance less that of the reference (the unpruned drafter with plain rejection), on the same positions"""
    acceptance_gain_low: float | None = None
    acceptance_gain_high: float | None = None
    tokens_per_forward: float | None = None
    """expected tokens per target forward with the row's draft length, on the same text"""
    tokens_per_forward_low: float | None = None
    tokens_per_forward_high: float | None = None
    text_positions: Count | None = None
    """positions that the expected values are means over"""
    race_acceptance: float | None = None
    """probability that one draft of the race is accepted, on laws logged with this drafter"""
    rank_entropy: float | None = None
    """H[R] in bits, R the rank of the target's token among the drafter's arrivals"""
    race_ceiling: float | None = None
    """(log V + log(nodes + 1)) / H[R]: most tokens per target forward of any race tree of so many nodes, for ranks that are
    independent from position to position (arXiv 2504.15475)"""
    lossy: str | None = None
    """why the output has another distribution than plain decoding's"""
    lossless: str | None = None
    """exact or pathwise: proved by the certificate of exactly this code (make lossless); else not proven, or lossy"""

    def estimate(self, name: str) -> Estimate | None:
        """The field `name` with its interval; None where it has no value."""
        value = getattr(self, name)
        return None if value is None else Estimate(value, getattr(self, f"{name}_low"), getattr(self, f"{name}_high"))

    def with_estimates(self, **found: Estimate | None) -> ReportRow:
        """The row with these values and their intervals; None leaves a field as it is."""
        known = [(name, item) for name, item in found.items() if item is not None]
        parts = (("", "value"), ("_low", "low"), ("_high", "high"))
        values = {f"{name}{end}": getattr(item, part) for name, item in known for end, part in parts}
        return dataclasses.replace(self, **values)


@dataclass(frozen=True)
class Position:
    """The drafts at one position of a row's rounds."""

    position: Count
    verified: Count
    accepted: Count
    rate: Share | None = None
    low: Share | None = None
    high: Share | None = None


@dataclass(frozen=True, kw_only=True)
class RowRounds(_Keyed):
    """What the single rounds of a row say."""

    temperature: Amount
    drafter: str | None
    preset: str | None = None
    executor: str
    stop: str | None = None
    sampler: str | None
    positions: tuple[Position, ...]
    """of the rounds in which the draft at this position was tested, the share in which it was accepted; by depth in a tree"""
    drafter_forwards: Count | None = None
    """null where drafts and drafter forwards are not the same number: trees and string-level samplers"""
    oracle_by_costs: Amount | None = None
    """tokens * t(1) / sum over rounds of (a * d + t(a + 1)), a = accepted drafts: speedup_by_costs of a stop policy that knows which
    drafts will be accepted and makes no others, within the drafts this row made"""
