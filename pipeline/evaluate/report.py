"""Puts the report of stage eval together from what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from drafters.errors import DraftersError
from drafters.io.atomic import write_atomic
from drafters.io.safe_load import read_json
from drafters.package.reader import Package
from drafters.probs import Sampling
from eval.costs.forwards import Costs
from eval.lossless.certificate import code_hash
from eval.report import rounds
from eval.report.annotations import RowEvidence, annotate
from eval.report.html.page import NAME, render
from eval.report.row import ReportRow, RowRounds
from eval.report.rows import greedy_identity, prices, rows
from eval.report.schema import (
    SCHEMA,
    CoveredDomain,
    DrafterRanks,
    EngineOverheads,
    ModelId,
    PromptSet,
    Report,
    definitions,
)
from eval.report.sources import Certificate, Further, ReportError, further
from eval.run.configurations import reference
from eval.run.records import Record
from eval.run.trials import Harness
from pipeline.config.settings import TrackingConfig
from pipeline.evaluate import held_out
from pipeline.evaluate.setup import Bench
from pipeline.evaluate.verdict_run import Judged
from pipeline.runner.stage import Workspace, say
from pipeline.tracking import log_report

DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16"}
# Stage -> (its report, what it makes, the rows that need it)
OPTIONAL = {"affinity": ("report.json", "prior", "rdk"), "tail": ("tail.json", "tail", "tail")}


def report(
    bench: Bench,
    records: Sequence[Record],
    costs: Costs,
    harness: Harness,
    evidence: RowEvidence,
    judged: Judged,
    left_out: Sequence[str],
    inputs: Mapping[str, Path],
    served: Sampling,
) -> Report:
    """All that the evaluation says; ``inputs``: the outputs of earlier stages, ``served``: the sampling they were made for."""
    made = _measured(bench, records, costs, harness, evidence)
    figures = held_out.figures(served, bench, inputs)
    agreed, off = held_out.sentences(figures)
    return replace(
        made,
        certificate_shipped=bool((evidence.certificate or {}).get("shipped")),
        not_applied=bench.not_applied,
        verdict=judged.choices,
        overheads=EngineOverheads(**vars(judged.overheads), forwards_over_measured=judged.overrun),
        warnings=(*bench.notes, *judged.warnings, *off),
        held_out=tuple(figures),
        held_out_said=tuple(agreed),
        absent=tuple(absent(bench.package, inputs, made)),
        left_out=tuple(left_out),
        selection=bench.asked.settings.rows,
    )


def _measured(bench: Bench, records: Sequence[Record], costs: Costs, harness: Harness, evidence: RowEvidence) -> Report:
    package, asked = bench.package, bench.asked
    described, vocabulary = package.description, len(package.vocab.to_drafter)
    unpruned = next(item.drafter for item in harness.contenders if item.drafter is not None)
    counted = rows(records, reference(unpruned).label, asked.executor.devices)
    chains = {item.configuration for item in harness.contenders if rounds.forward_per_draft(item)}
    return Report(
        schema=SCHEMA,
        device=harness.device.type,
        dtype=DTYPES[harness.check.target.dtype],
        pair=asked.pair["name"],
        vocabulary=vocabulary,
        kept=len(package.kept),
        coverage=described["coverage"],
        least_covered=CoveredDomain(**least) if (least := described.get("least_covered")) else None,
        costs=prices(costs),
        rows=tuple(annotate(counted, harness.contenders, evidence, costs, vocabulary, harness.warps)),
        drafter_vocabulary=described["drafter"]["vocabulary"],
        threads=torch.get_num_threads(),
        prompts=PromptSet(
            asked.suite.name, counted[0].prompts or 0, asked.settings.max_new_tokens, asked.settings.repeats
        ),
        greedy_identity=greedy_identity(records, harness.check.exact),
        definitions=definitions(ReportRow) | definitions(RowRounds),
        models={role: ModelId(described[role]["id"], described[role]["revision"]) for role in ("target", "drafter")},
        warps=harness.warps,
        code=code_hash(),
        certified=evidence.certificate is not None,
        ranks=tuple(
            DrafterRanks(**vars(own), drafter=drafter, temperature=heat)
            for (drafter, heat), own in evidence.ranks.items()
        ),
        rounds=rounds.by_round(records, costs, chains),
    )


def absent(package: Package, inputs: Mapping[str, Path], made: Report) -> list[str]:
    """What the package lacks and why, with the command that makes what was switched off."""
    lacking = [name for name, part in (("affinity", package.affinity), ("tail", package.tailed)) if part is None]
    # Two vocabularies have neither, whatever is switched on.
    said, off = [], [name for name in lacking if name not in inputs and not package.foreign]
    if off:
        parts = " and ".join(f"no {OPTIONAL[name][1]} (rows of {OPTIONAL[name][2]})" for name in off)
        command = made.command("eval", *(f"{name}.enabled=true" for name in off))
        said.append(f"this package has {parts}: switched off; with it: {command}")
    for name in lacking:
        if name in inputs:
            file, what, row = OPTIONAL[name]
            said.append(f"this package has no {what} (rows of {row}): {read_json(inputs[name], file).get('reason')}")
    return said


def write_page(
    work: Workspace,
    made: Report,
    certificate: Mapping[str, object] | None,
    folder: Path,
    runs: Path,
    tracking: TrackingConfig,
) -> None:
    """Write report.html, and log the report where tracking is on. What fails there is said and does not cost the measurement.

    ``folder``: where the report will lie.
    """
    own = cast(Certificate | None, certificate)
    try:
        more = _of_this_pair(further(runs, made.code), made.models, own)
    except ReportError as error:  # of something else below runs
        say(work.console, f"warning: {error}", whole=True)
        more = Further(certificate=own)
    try:
        write_atomic(work.out / NAME, render(made, more))
        log_report(made, more, folder, mode=tracking.wandb, project=tracking.project, runs=runs)
    except DraftersError as error:
        say(work.console, f"warning: {error}", whole=True)


def _of_this_pair(found: Further, models: Mapping[str, ModelId], certificate: Certificate | None) -> Further:
    """What other commands measured of the same models. A curve and a timeline do not say whose they are: `make report` shows them."""
    own = {role: model.revision for role, model in models.items()}
    disco = found.disco if found.disco is not None and found.disco.get("revisions") == own else None
    return Further(certificate=certificate, disco=disco)
