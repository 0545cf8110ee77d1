"""tail: give the pruned rows of a drafter's head back, as a low-rank approximation.

The text is read in three parts, split by document: sums for the factorisation and the training come from the first, rank
and form (training-free or trained) are chosen on the second, and what they are worth is measured on the third. Writes a
directory in prune's layout with ``tail.safetensors`` beside it, and ``tail.json``: acceptances with intervals, bytes,
singular values and stable ranks. Where there is nothing to give back it says why and writes no tail.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from safetensors.torch import save
from torch import Tensor

from drafters.io.atomic import write_atomic, write_json
from drafters.io.safe_load import read_json
from drafters.models.forms import tail_form
from drafters.models.model_folder import open_model, quiet
from drafters.models.tail import Spectrum, Tail
from drafters.package.components import TAIL
from eval.stats.bootstrap import interval
from pipeline.errors import ConfigError
from pipeline.fit import tail_fit
from pipeline.fit import text_and_models as texts
from pipeline.fit.linked_folder import carry
from pipeline.fit.text_and_models import Reading, open_reading
from pipeline.fit.trainer import Plan, train
from pipeline.runner.stage import Advance, Context, Stage

REPORT = "tail.json"


@dataclass
class TailConfig:
    """How much text is read, which ranks are tried, and how long the tail is trained."""

    # False: the package holds no tail, and the sampler tail does not apply
    enabled: bool = True
    # corpus | generations: the target's own text, made by the stage generate
    source: str = "corpus"
    # Of text, all three parts together: fit, calibrate, test
    tokens: int = 100_000
    window: int = 256  # tokens read at once
    windows_per_document: int = 2
    rank: int | None = None  # null: that of `ranks` (and `covers`) with the most tokens per weight read
    ranks: list[int] = field(default_factory=lambda: [4, 8, 12, 16, 24, 32])
    # Shares of the pruned tokens that a tail covers, the likeliest ones; tried with every rank
    covers: list[float] = field(default_factory=lambda: [1.0, 0.4])
    # Of the whole head's weights, kept rows included: no rank above that is chosen
    max_head_share: float = 0.35
    steps: int = 0  # of training; 0: training-free
    batch: int = 2  # windows per step
    rate: float = 0.003  # of Adam
    tv_from: float = 0.5  # share of the steps after which the loss goes over from KL to total variation


def run(context: Context) -> None:
    """Factorise, choose a rank, train, measure, write."""
    settings, folder = context.cfg.tail, context.inputs.get("drafter", context.inputs["prune"])
    carry(folder, context.out)
    with context.progress("Opening models and text", None):
        reading = open_reading(context.cfg, settings, context.inputs)
    if isinstance(reading, str):
        context.console.print(f"no tail: {reading}; the package goes without", highlight=False)
        _write(context, {"tail": None, "reason": reading})
        return
    total = sum(len(part) for part in reading.texts.values()) + len(reading.texts["calibrate"]) * bool(settings.steps)
    context.console.print(
        f"reading {total} windows of up to {settings.window} tokens with both models, {settings.steps} training steps",
        highlight=False,
    )
    with context.progress("Fitting the tail", total + settings.steps) as bar, quiet(always=True):
        tail, report = _fit(context, reading, bar.advance)
    write_atomic(context.out / TAIL, save(_tensors(tail)))
    texts.keep_test(context.out, reading)
    _write(context, report)
    _say(context, report)


def _fit(context: Context, reading: Reading, advance: Advance) -> tuple[Tail, dict[str, Any]]:
    settings = context.cfg.tail
    full = open_model(
        reading.checkpoint.source, reading.checkpoint.config, reading.drafter.dtype, reading.drafter.device
    )
    head = full.get_output_embeddings()
    sums = tail_fit.moments(reading, advance)
    ranks = list(settings.ranks) if settings.rank is None else [settings.rank]
    tails, spectrum = tail_fit.candidates(reading, head, sums, ranks, list(settings.covers))
    free, rows = tail_fit.choose(reading, tails, settings.max_head_share, context.cfg.package.lookahead, advance)
    forms = {"full": full, "tli": reading.drafter, "tail_free": tail_form(reading.drafter, free)}
    chosen = {"rank": free.rank, "tokens": len(free.ids), "ranks": rows}
    tail, report = free, {**chosen, "tail": "training-free", "spectrum": _spectrum(spectrum)}
    if settings.steps:
        trained = _trained(context, reading, free, advance)
        forms["tail_trained"] = tail_form(reading.drafter, trained)
        both = {name: forms[name] for name in ("tail_free", "tail_trained")}
        found = tail_fit.acceptances(reading, both, reading.texts["calibrate"], advance)
        if tail_fit.mean(found["tail_trained"]) > tail_fit.mean(found["tail_free"]):
            tail, report["tail"] = trained, "trained"
        report["trained_spectrum"] = _spectrum(Spectrum(_product_values(trained)))
    measured = tail_fit.acceptances(reading, forms, reading.texts["test"], advance)
    report |= {"acceptance": {name: _interval(rows) for name, rows in measured.items()}}
    report |= {"head_share": tail_fit.head_share(reading, tail), "head_share_short": tail_fit.head_share(reading, None)}
    return tail, report | {"test_documents": len(measured["full"]), "test_tokens": int(measured["full"][:, 0].sum())}


def _trained(context: Context, reading: Reading, free: Tail, advance: Advance) -> Tail:
    """The tail after training from the training-free one; what a killed run had done is kept in ``.training``."""
    settings = context.cfg.tail
    student = tail_form(reading.drafter, free)
    head: Any = student.get_output_embeddings()
    trained = {"down": head.down, "up": head.up, "bias": head.tail_bias}
    plan = Plan(
        settings.steps,
        settings.batch,
        settings.rate,
        settings.tv_from,
        context.cfg.seed,
        context.cfg.package.temperature,
    )
    windows = [ids for _, ids in reading.texts["fit"]]
    train(student, trained, reading.target, windows, plan, context.out / ".training", advance)
    down, up, bias = (trained[name].detach().float().cpu().clone() for name in ("down", "up", "bias"))
    return Tail(free.ids, down, up, bias)


def _product_values(tail: Tail) -> Tensor:
    """Singular values of up @ down, through two small triangles: fp64 (R,)."""
    left, right = (torch.linalg.qr(part.double()).R for part in (tail.up, tail.down.T))
    return torch.linalg.svdvals(left @ right.T)


def _spectrum(spectrum: Spectrum) -> dict[str, Any]:
    """Deep networks are known to be biased to low rank (arXiv 2201.12760): what this slice says of itself."""
    return {"stable_rank": spectrum.stable_rank, "values": [float(value) for value in spectrum.values]}


def _interval(rows: Tensor) -> dict[str, float | None]:
    low, high = interval(lambda tokens, accepted: accepted / tokens, *rows.numpy().T)
    return {"mean": tail_fit.mean(rows), "low": low, "high": high}


def _tensors(tail: Tail) -> dict[str, Tensor]:
    parts = {"ids": tail.ids, "down": tail.down, "up": tail.up, "bias": tail.bias}
    return {name: part.contiguous() for name, part in parts.items() if part is not None}


def _write(context: Context, report: dict[str, Any]) -> None:
    shutil.rmtree(context.out / ".training", ignore_errors=True)
    write_json(context.out / REPORT, report)


def _say(context: Context, report: dict[str, Any]) -> None:
    found = report["acceptance"]
    parts = [f"{name.replace('_', ' ')} {item['mean']:.3f}" for name, item in found.items()]
    context.console.print(
        f"tail of rank {report['rank']} for {report['tokens']:,} tokens, {report['tail']}, "
        f"{report['head_share']:.0%} of the whole head's weights "
        f"(kept rows alone: {report['head_share_short']:.0%}); acceptance on unseen text: {', '.join(parts)}",
        highlight=False,
    )


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for settings that cannot work, before anything is loaded."""
    texts.check(cfg, "tail")
    settings = cfg.tail
    for rank in settings.ranks if settings.rank is None else [settings.rank]:
        if rank < 1:
            raise ConfigError(f"tail.rank: expected whole numbers from 1, got {rank}")
    if settings.rank is None and not settings.ranks:
        raise ConfigError("tail.ranks=[]: expected at least one rank to try, or tail.rank")
    if not settings.covers or not all(0 < share <= 1 for share in settings.covers):
        raise ConfigError(f"tail.covers={settings.covers}: expected shares above 0 and up to 1")
    if settings.steps < 0 or settings.batch < 1 or not settings.rate > 0:
        raise ConfigError("tail: expected steps from 0, batch from 1 and a rate above 0")


def brief(directory: Path) -> str:
    """Summarise the run in one line: what the tail gains, and what it costs."""
    report = read_json(directory, REPORT)
    if report["tail"] is None:
        return f"no tail: {report['reason']}"
    found = report["acceptance"]
    mean = found["tail_trained" if report["tail"] == "trained" else "tail_free"]["mean"]
    return f"acceptance {mean:.3f} (unpruned {found['full']['mean']:.3f}), {report['head_share']:.0%} of the head"


STAGE = Stage(
    name="tail",
    run=run,
    inputs=lambda cfg: texts.stage_inputs(cfg, "tail"),
    config=lambda cfg: texts.key_values(cfg, "tail"),
    external=lambda cfg: texts.external(cfg, "tail"),
    check=check,
    brief=brief,
)
