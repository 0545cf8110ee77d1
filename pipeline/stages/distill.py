"""distill: heal a pruned drafter by a short training of its kept head rows and norms towards the target.

Everything else stays as it was, so that the input embedding, shared with the unpruned drafter, needs no second copy. The text is
the target's own (contexts that drafts are verified in), in three parts split by document: trained on the first, stopped by the
acceptance on the second, and worth what it is on the third. Writes a directory in prune's layout and ``distill.json``; a training that does
not help leaves the drafter as it was and says so.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from safetensors.torch import load_file
from transformers import PreTrainedModel

from drafters.io.atomic import write_json
from drafters.models.forms import short_form
from drafters.models.model_folder import open_model, quiet
from drafters.models.prune import load_pruned, save_pruned
from eval.stats.bootstrap import interval
from pipeline.errors import ConfigError
from pipeline.fit import healed_parameters, tail_fit
from pipeline.fit import text_and_models as texts
from pipeline.fit.early_stopping import Best
from pipeline.fit.linked_folder import carry
from pipeline.fit.text_and_models import Reading, open_reading
from pipeline.fit.trainer import Plan, train
from pipeline.runner.stage import Advance, Context, Stage

REPORT = "distill.json"


@dataclass
class DistillConfig:
    """How much text is read, and how long is trained at most."""

    # True: package, tail and affinity go on from the healed drafter
    enabled: bool = False
    # corpus | generations: the target's own text, where drafts are verified
    source: str = "generations"
    # Of text, all three parts together: fit, calibrate, test
    tokens: int = 400_000
    window: int = 256  # tokens read at once
    windows_per_document: int = 4
    steps: int = 400  # of training, at most
    batch: int = 4  # windows per step
    rate: float = 0.0005  # of Adam
    tv_from: float = 0.25  # share of the steps after which the loss goes over from KL to total variation
    every: int = 50  # steps between two measurements of acceptance
    patience: int = 3  # measurements without a better one that end the training


def run(context: Context) -> None:
    """Train, keep the best, measure, write."""
    settings, folder = context.cfg.distill, context.inputs["prune"]
    carry(folder, context.out)
    with context.progress("Opening models and text", None):
        reading = open_reading(context.cfg, settings, context.inputs)
    if isinstance(reading, str):
        context.console.print(f"not distilled: {reading}; the drafter stays as it is", highlight=False)
        return _write(context, {"distilled": False, "reason": reading})
    checks = settings.steps // settings.every + 1
    total = settings.steps + checks * len(reading.texts["calibrate"]) + len(reading.texts["test"])
    context.console.print(
        f"training kept rows and norms for up to {settings.steps} steps of {settings.batch} windows", highlight=False
    )
    with context.progress("Distilling", total) as bar, quiet(always=True):
        drafter, best = _distilled(context, reading, folder, bar.advance)
        # What the drafter was, what it is, and what it was before anything was pruned, on text none of them has seen.
        full = open_model(
            reading.checkpoint.source, reading.checkpoint.config, reading.drafter.dtype, reading.drafter.device
        )
        forms = {"full": full, "before": reading.drafter, "after": short_form(drafter)}
        measured = tail_fit.acceptances(reading, forms, reading.texts["test"], bar.advance)
    improved = best.improved and tail_fit.mean(measured["after"]) > tail_fit.mean(measured["before"])
    if improved:
        shutil.rmtree(context.out / "model")  # linked to prune's files: written beside, never through
        with quiet(always=True):
            save_pruned(drafter, reading.kept, context.out / "model")
    found = _intervals(measured)
    _write(context, {"distilled": improved, "steps": best.step, "calibration": best.history, "acceptance": found})
    context.console.print(
        f"{'healed' if improved else 'no gain, the drafter stays as it was'}: acceptance on unseen text "
        f"{found['before']['mean']:.3f} -> {found['after']['mean']:.3f} after {best.step} steps (unpruned: {found['full']['mean']:.3f})",
        highlight=False,
    )


def _distilled(context: Context, reading: Reading, folder: Path, advance: Advance) -> tuple[PreTrainedModel, Best]:
    """The drafter with its best weights; what a killed run had done is kept in ``.training``."""
    settings, cfg = context.cfg.distill, context.cfg
    student = load_pruned(folder / "model", dtype=torch.float32).to(reading.target.device).eval().requires_grad_(False)
    trained = healed_parameters.parameters(student)
    plan = Plan(settings.steps, settings.batch, settings.rate, settings.tv_from, cfg.seed, cfg.package.temperature)

    def acceptance() -> float:
        rows = tail_fit.acceptances(reading, {"now": short_form(student)}, reading.texts["calibrate"], advance)
        return tail_fit.mean(rows["now"])

    best = Best(acceptance, trained, context.out / ".training", settings.every, settings.patience)
    windows = [ids for _, ids in reading.texts["fit"]]
    train(student, trained, reading.target, windows, plan, context.out / ".training", advance, [best], reading.kept)
    weights = load_file(best.path)
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(weights[name])
    return student.to(reading.drafter.dtype), best


def _intervals(measured: Mapping[str, torch.Tensor]) -> dict[str, dict[str, float | None]]:
    found = {}
    for name, rows in measured.items():
        low, high = interval(lambda tokens, accepted: accepted / tokens, *rows.numpy().T)
        found[name] = {"mean": tail_fit.mean(rows), "low": low, "high": high}
    return found


def _write(context: Context, report: dict[str, Any]) -> None:
    shutil.rmtree(context.out / ".training", ignore_errors=True)
    write_json(context.out / REPORT, report)


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for settings that cannot work, before anything is loaded."""
    texts.check(cfg, "distill")
    settings = cfg.distill
    if min(settings.steps, settings.batch, settings.every, settings.patience) < 1 or not settings.rate > 0:
        raise ConfigError("distill: expected steps, batch, every and patience from 1 and a rate above 0")


STAGE = Stage(
    name="distill",
    run=run,
    inputs=lambda cfg: texts.stage_inputs(cfg, "distill"),
    config=lambda cfg: texts.key_values(cfg, "distill"),
    external=lambda cfg: texts.external(cfg, "distill"),
    check=check,
)
