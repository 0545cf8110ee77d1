"""Puts the report of stage eval together from what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from drafters.errors import DraftersError
from drafters.package.reader import Package
from eval.costs.forwards import Costs, cost_report
from eval.expectation import expectation_summary as expectation
from eval.lossless.certificate import code_hash
from eval.report import annotations as summary
from eval.report import rounds
from eval.report.html.page import NAME, render
from eval.report.shapes import ReportError
from eval.report.sources import Further, further
from eval.report.write import assemble
from eval.run import metrics
from eval.run.configurations import reference
from eval.run.records import PACKAGE, UNPRUNED, Record
from eval.run.trials import Harness
from pipeline.evaluate import executors
from pipeline.runner.stage import Context, write_atomic
from pipeline.tracking import log_report


def report(
    cfg: DictConfig,
    records: list[Record],
    package: Package,
    costs: Costs,
    harness: Harness,
    evidence: summary.RowEvidence,
) -> dict[str, Any]:
    """report.json: the schema's fields first."""
    description = package.description
    unpruned = next(item.drafter for item in harness.contenders if item.drafter is not None)
    rows = metrics.rows(records, reference(unpruned).label)
    vocabulary = len(package.vocab.to_drafter)
    metrics.per_device(rows, executors.devices(cfg))
    summary.annotate(rows, harness.contenders, evidence, costs, vocabulary, harness.warps)
    head = {
        "device": harness.device.type,
        "dtype": {torch.float32: "fp32", torch.bfloat16: "bf16"}[harness.check.target.dtype],
        "pair": cfg.pair.name,
        "vocabulary": vocabulary,
        "kept": len(package.kept),
        "coverage": description["coverage"],
        "costs": cost_report(costs, UNPRUNED, PACKAGE),
    }
    more = _more(cfg, description, records, rows, harness, evidence)
    chains = {item.configuration for item in harness.contenders if rounds.forward_per_draft(item)}
    return assemble(head, rows, more | {"rounds": rounds.by_round(records, costs, chains)})


def write_page(context: Context, made: Mapping[str, Any], certificate: Mapping[str, Any] | None) -> None:
    """Write report.html, and log the report where tracking is on. What fails there is said and does not cost the measurement."""
    cfg = context.cfg
    folder, runs = context.home or context.out, Path(cfg.runs_dir)
    try:
        more = _of_this_pair(further(runs, made.get("code")), made["models"], certificate)
    except ReportError as error:  # of something else below runs
        context.console.print(f"warning: {error}", highlight=False, markup=False, soft_wrap=True)
        more = Further(certificate=certificate)
    try:
        write_atomic(context.out / NAME, render(made, more))
        log_report(made, more, folder, mode=cfg.tracking.wandb, project=cfg.tracking.project, runs=runs)
    except DraftersError as error:
        context.console.print(f"warning: {error}", highlight=False, markup=False, soft_wrap=True)


def _of_this_pair(
    found: Further, models: Mapping[str, Mapping[str, Any]], certificate: Mapping[str, Any] | None
) -> Further:
    """What other commands measured of the same models. A curve and a timeline do not say whose they are: `make report` shows them."""
    own = {role: model["revision"] for role, model in models.items()}
    disco = found.disco if found.disco is not None and found.disco.get("revisions") == own else None
    return Further(certificate=certificate, disco=disco)


def _more(
    cfg: DictConfig,
    description: Mapping[str, Any],
    records: list[Record],
    rows: list[dict[str, Any]],
    harness: Harness,
    evidence: summary.RowEvidence,
) -> dict[str, Any]:
    """What the report says beyond its schema."""
    return {
        "drafter_vocabulary": description["drafter"]["vocabulary"],
        "models": {
            role: {name: description[role][name] for name in ("id", "revision")} for role in ("target", "drafter")
        },
        "threads": torch.get_num_threads(),
        "prompts": {
            "suite": cfg.suite.name,
            "count": rows[0]["prompts"],
            "max_new_tokens": cfg.eval.max_new_tokens,
            "repeats": cfg.eval.repeats,
        },
        "warps": asdict(harness.warps),
        "code": code_hash(),
        "certified": evidence.certificate is not None,
        "ranks": [
            {"drafter": drafter, "temperature": temperature, **asdict(found)}
            for (drafter, temperature), found in evidence.ranks.items()
        ],
        "greedy_identity": metrics.greedy_identity(records, harness.check.exact),
        "definitions": metrics.DEFINITIONS | summary.DEFINITIONS | expectation.DEFINITIONS | rounds.DEFINITIONS,
    }
