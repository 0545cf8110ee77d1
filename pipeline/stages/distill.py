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

import torch
from omegaconf import DictConfig
from transformers import PreTrainedModel

from drafters.io.atomic import write_json
from drafters.models.forms import short_form
from drafters.models.heads import grow_embedding, resize_embedding
from drafters.models.model_folder import quiet
from drafters.models.prune import load_pruned, save_pruned
from pipeline.config import text_settings as texts
from pipeline.config.settings import read
from pipeline.config.text_settings import source_of
from pipeline.errors import ConfigError
from pipeline.fit import tail_fit
from pipeline.fit.best import Best
from pipeline.fit.text_and_models import Reading, carry, open_reading, open_unpruned
from pipeline.fit.trainer import Plan, healed_parameters, train
from pipeline.runner.stage import Advance, Context, Stage, say

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
    settings, folder = read(context.cfg.distill, DistillConfig), context.inputs["prune"]
    carry(folder, context.out)
    with context.progress("Opening models and text", None):
        reading = open_reading(source_of(context, "distill"), settings)
    if isinstance(reading, str):
        say(context.console, f"not distilled: {reading}; the drafter stays as it is")
        return _write(context.out, {"distilled": False, "reason": reading})
    checks = settings.steps // settings.every + 1
    total = settings.steps + checks * len(reading.texts["calibrate"]) + len(reading.texts["test"])
    say(context.console, f"training kept rows and norms for up to {settings.steps} steps of {settings.batch} windows")
    with context.progress("Distilling", total) as bar, quiet(always=True):
        plan = Plan(
            settings.steps,
            settings.batch,
            settings.rate,
            settings.tv_from,
            context.cfg.seed,
            context.cfg.package.temperature,
        )
        drafter, best = _distilled(context.out / ".training", reading, folder, settings, plan, bar.advance)
        # What the drafter was, what it is, and what it was before anything was pruned, on text none of them has seen.
        full = open_unpruned(reading)
        forms = {"full": full, "before": reading.drafter, "after": short_form(drafter)}
        measured = tail_fit.acceptances(reading, forms, reading.texts["test"], bar.advance)
    improved = best.improved and tail_fit.mean(measured["after"]) > tail_fit.mean(measured["before"])
    if improved:
        shutil.rmtree(context.out / "model")  # linked to prune's files: written beside, never through
        with quiet(always=True):
            save_pruned(drafter, reading.kept, context.out / "model")
    found = {name: tail_fit.with_interval(rows) for name, rows in measured.items()}
    _write(context.out, {"distilled": improved, "steps": best.step, "calibration": best.history, "acceptance": found})
    say(
        context.console,
        f"{'healed' if improved else 'no gain, the drafter stays as it was'}: acceptance on unseen text "
        f"{found['before']['mean']:.3f} -> {found['after']['mean']:.3f} after {best.step} steps (unpruned: {found['full']['mean']:.3f})",
    )


def _distilled(
    work: Path, reading: Reading, folder: Path, settings: DistillConfig, plan: Plan, advance: Advance
) -> tuple[PreTrainedModel, Best]:
    """The drafter with its best weights; what a killed run had done is kept in ``work``."""
    student = load_pruned(folder / "model", dtype=torch.float32).to(reading.target.device).eval().requires_grad_(False)
    rows = student.config.get_text_config().vocab_size
    grow_embedding(student, len(reading.vocab.to_drafter))
    trained = healed_parameters(student)

    def acceptance() -> dict[str, float]:
        rows = tail_fit.acceptances(reading, {"now": short_form(student)}, reading.texts["calibrate"], advance)
        return {"acceptance": tail_fit.mean(rows["now"])}

    best = Best(acceptance, trained, work, settings.every, settings.patience)
    windows = [ids for _, ids in reading.texts["fit"]]
    train(student, trained, reading.target, windows, plan, work, advance, [best], reading.kept)
    best.restore()
    return resize_embedding(student, rows).to(reading.drafter.dtype), best  # written as wide as it was read


def _write(out: Path, report: Mapping[str, object]) -> None:
    shutil.rmtree(out / ".training", ignore_errors=True)
    write_json(out / REPORT, report)


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
