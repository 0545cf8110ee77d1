"""What the report's rows say beyond counts and seconds: proof, optimum, ranks; and whether a row's settings are lossy."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from drafters.probs import Sampling
from drafters.samplers.lossy_settings import same_law
from eval.acceptance.logged_laws import nodes
from eval.acceptance.optimality_gap import Optimum, Ranks
from eval.costs.forwards import Costs
from eval.expectation.expectation_summary import Expected
from eval.lossless.certificate import status
from eval.report.row import ReportRow
from eval.report.schema import Report
from eval.run.configurations import Contender
from eval.run.records import SPECULATIVE, Configuration
from eval.run.trials import Warps

NOT_PROVEN, LOSSY = "not proven", "lossy"


@dataclass(frozen=True)
class RowEvidence:
    """What was found beside the timed runs."""

    optima: Mapping[Configuration, Optimum]
    ranks: Mapping[tuple[str, float], Ranks]  # (drafter, temperature)
    certificate: Mapping[str, object] | None  # of the code that ran
    expected: Mapping[Configuration, Expected] = field(default_factory=dict)


def annotate(
    rows: Iterable[ReportRow],
    contenders: Sequence[Contender],
    evidence: RowEvidence,
    costs: Costs,
    vocabulary: int,
    warps: Warps,
) -> list[ReportRow]:
    """The rows of these contenders with all that the evidence says, measured with `warps` on a target of V tokens."""
    known = {contender.configuration: contender for contender in contenders}
    names = [field.name for field in dataclasses.fields(Configuration)]
    return [
        _annotated(
            row,
            known[Configuration(**{name: getattr(row, name) for name in names})],
            evidence,
            costs,
            vocabulary,
            warps,
        )
        for row in rows
    ]


def _annotated(
    row: ReportRow, contender: Contender, evidence: RowEvidence, costs: Costs, vocabulary: int, warps: Warps
) -> ReportRow:
    key, most = contender.configuration, nodes(contender)
    optimum, expected = evidence.optima.get(key), evidence.expected.get(key)
    made = dataclasses.replace(
        row,
        speedup_by_costs=by_costs(row, costs),
        nodes=most,
        lossy=lossy(contender, optimum, warps.plain(key.temperature)),
        **({} if optimum is None else vars(optimum)),
    )
    if expected is not None:
        made = dataclasses.replace(made, text_positions=expected.text_positions).with_estimates(
            acceptance=expected.acceptance,
            acceptance_gain=expected.acceptance_gain,
            tokens_per_forward=expected.tokens_per_forward,
        )
    if contender.sampler is not None and contender.sampler.verifier.coupled and most:
        made = _raced(made, evidence.ranks.get((str(key.drafter), key.temperature)), vocabulary, most)
    return dataclasses.replace(made, lossless=proof(made, evidence.certificate))


def _raced(row: ReportRow, found: Ranks | None, vocabulary: int, most: int) -> ReportRow:
    if found is None:
        return row
    ceiling = found.ceiling(vocabulary, most)
    return dataclasses.replace(
        row, race_acceptance=found.race_acceptance, rank_entropy=found.entropy, race_ceiling=ceiling
    )


def lossy(contender: Contender, found: Optimum | None, plain: Sampling) -> str | None:
    """Why a contender's output has another distribution than plain decoding's; None where nothing says so."""
    if contender.warp is not None and not same_law(plain, contender.warp):
        return f"verified against {contender.warp}, plain decoding draws from {plain}"
    return None if found is None else found.lossy


def proof(row: ReportRow, certificate: Mapping[str, object] | None) -> str | None:
    """The row's `lossless`; None for plain decoding, which has nothing to prove."""
    if row.sampler is None:
        return None
    if row.lossy:
        return LOSSY
    return status(dict(certificate) if certificate else None, row.sampler) or NOT_PROVEN


def proved_since(report: Report, certificate: Mapping[str, object] | None) -> Report:
    """The report with the proofs of a certificate that was given, perhaps later, to the code that was measured."""
    if certificate is None or certificate.get("code") != report.code:
        return report
    proved = tuple(dataclasses.replace(row, lossless=proof(row, certificate)) for row in report.rows)
    return dataclasses.replace(report, rows=proved)


def by_costs(row: ReportRow, costs: Costs) -> float | None:
    """The row's speed-up if forwards were all the work."""
    if row.executor != SPECULATIVE or not row.target_forwards:  # servers work side by side: no sum of forwards
        return None
    efficiency = row.tokens / row.target_forwards
    return costs.speedup(str(row.drafter), efficiency, row.drafted / row.target_forwards)
