"""What the report's rows say beyond counts and seconds: proof, optimum, ranks; and whether a row's settings are lossy."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from drafters.probs import Sampling
from drafters.samplers.lossy_settings import same_law
from eval.acceptance.logged_laws import nodes
from eval.acceptance.optimality_gap import Optimum, Ranks
from eval.costs.forwards import Costs
from eval.lossless.certificate import status
from eval.run.configurations import Contender
from eval.run.records import SPECULATIVE, Configuration
from eval.run.trials import Warps

Row = dict[str, Any]

NOT_PROVEN, LOSSY = "not proven", "lossy"
DEFINITIONS = {
    "lossless": "exact or pathwise: proved by the certificate of exactly this code (make lossless); else not proven, or lossy "
    "with the reason in the field of that name",
    "nodes": "drafted tokens of the largest round",
    "optimal_acceptance": "highest probability that any lossless verifier accepts one of drafts_at_root children of a node, for "
    "the way they are drawn; mean over common_laws laws (p, q) that are logged once per drafter and temperature",
    "expected_acceptance": "the verifier's own probability on the same laws, by its formula (sampled for races of several drafts "
    "and for draws without replacement)",
    "gap_to_optimum": "optimal_acceptance - expected_acceptance",
    "measured_at_root": "share of law_rounds rounds of a short run in which one of the root's children was accepted",
    "expected_at_root": "what the laws logged in those rounds let expect; z_at_root: the difference in standard errors",
    "race_acceptance": "probability that one draft of the race is accepted, on laws logged with this drafter",
    "rank_entropy": "H[R] in bits, R the rank of the target's token among the drafter's arrivals",
    "race_ceiling": "(log V + log(nodes + 1)) / H[R]: most tokens per target forward of any race tree of so many nodes, for "
    "ranks that are independent from position to position (arXiv 2504.15475)",
}
EXPECTED = ("acceptance", "acceptance_gain", "tokens_per_forward")
NOT_EXPECTED: dict[str, Any] = {f"{name}{end}": None for name in EXPECTED for end in ("", "_low", "_high")}
NOT_EXPECTED |= {"text_positions": None}
_NO_OPTIMUM = dict.fromkeys(field.name for field in dataclasses.fields(Optimum))


@dataclass(frozen=True)
class RowEvidence:
    """What was found beside the timed runs."""

    optima: Mapping[Configuration, Optimum]
    ranks: Mapping[tuple[str, float], Ranks]  # (drafter, temperature)
    certificate: Mapping[str, Any] | None  # of the code that ran
    expected: Mapping[Configuration, Row] = field(
        default_factory=dict
    )  # see eval.expectation.expectation_summary.DEFINITIONS


def annotate(
    rows: Iterable[Row],
    contenders: Sequence[Contender],
    evidence: RowEvidence,
    costs: Costs,
    vocabulary: int,
    warps: Warps,
) -> None:
    """Add the fields of DEFINITIONS to the rows of these contenders, measured with `warps` on a target of V tokens."""
    known = {contender.configuration: contender for contender in contenders}
    names = [field.name for field in dataclasses.fields(Configuration)]
    for row in rows:
        key = Configuration(**{name: row[name] for name in names})
        contender, found = known[key], evidence.optima.get(key)
        row["speedup_by_costs"] = by_costs(row, costs)
        row["nodes"] = nodes(contender)
        row |= _NO_OPTIMUM if found is None else found.fields()
        row |= evidence.expected.get(key, NOT_EXPECTED)
        row |= _ranks(contender, row["nodes"], evidence, vocabulary)
        row["lossy"] = lossy(contender, found, warps.plain(key.temperature))
        row["lossless"] = proof(row, evidence.certificate)


def lossy(contender: Contender, found: Optimum | None, plain: Sampling) -> str | None:
    """Why a contender's output has another distribution than plain decoding's; None where nothing says so."""
    if contender.warp is not None and not same_law(plain, contender.warp):
        return f"verified against {contender.warp}, plain decoding draws from {plain}"
    return None if found is None else found.lossy


def proof(row: Mapping[str, Any], certificate: Mapping[str, Any] | None) -> str | None:
    """The row's `lossless`; None for plain decoding, which has nothing to prove."""
    if row["sampler"] is None:
        return None
    if row["lossy"]:
        return LOSSY
    return status(dict(certificate) if certificate else None, row["sampler"]) or NOT_PROVEN


def proved_since(report: Mapping[str, Any], certificate: Mapping[str, Any] | None) -> dict[str, Any]:
    """The report with the proofs of a certificate that was given, perhaps later, to the code that was measured."""
    if certificate is None or certificate.get("code") != report["code"]:
        return dict(report)
    return {**report, "rows": [{**row, "lossless": proof(row, certificate)} for row in report["rows"]]}


def by_costs(row: Mapping[str, Any], costs: Costs) -> float | None:
    """The row's speed-up if forwards were all the work."""
    if row["executor"] != SPECULATIVE or not row["target_forwards"]:  # servers work side by side: no sum of forwards
        return None
    return costs.speedup(row["drafter"], row["block_efficiency"], row["drafted"] / row["target_forwards"])


def _ranks(contender: Contender, most: int | None, evidence: RowEvidence, vocabulary: int) -> Row:
    found = None
    if contender.sampler is not None and contender.sampler.verifier.coupled:
        found = evidence.ranks.get((str(contender.configuration.drafter), contender.configuration.temperature))
    if found is None or not most:
        return {"race_acceptance": None, "rank_entropy": None, "race_ceiling": None}
    return {
        "race_acceptance": found.race_acceptance,
        "rank_entropy": found.entropy,
        "race_ceiling": found.ceiling(vocabulary, most),
    }
