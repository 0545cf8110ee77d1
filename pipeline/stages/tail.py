"""tail: give the pruned rows of a drafter's head back, as a low-rank approximation.

The text is read in three parts, split by document: sums for the factorisation and the training come from the first, rank
and form (training-free or trained) are chosen on the second, and what they are worth is measured on the third. Writes a
directory in prune's layout with ``tail.safetensors`` beside it, and ``tail.json``: acceptances with intervals, bytes,
singular values and stable ranks. Where there is nothing to give back it says why and writes no tail.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from safetensors.torch import save
from torch import Tensor

from drafters.io.atomic import write_atomic, write_json
from drafters.io.safe_load import read_json
from drafters.models.forms import tail_form
from drafters.models.model_folder import quiet
from drafters.models.tail import Spectrum, Tail
from drafters.package.components import TAIL
from pipeline.config import text_settings as texts
from pipeline.config.settings import read
from pipeline.config.text_settings import source_of
from pipeline.errors import ConfigError
from pipeline.fit import tail_fit
from pipeline.fit.text_and_models import Reading, carry, keep_test, open_reading, open_unpruned
from pipeline.fit.trainer import Plan
from pipeline.runner.stage import Advance, Context, Stage, say

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
    settings = read(context.cfg.tail, TailConfig)
    folder = context.inputs.get("drafter", context.inputs["prune"])
    carry(folder, context.out)
    with context.progress("Opening models and text", None):
        reading = open_reading(source_of(context, "tail"), settings)
    if isinstance(reading, str):
        say(context.console, f"no tail: {reading}; the package goes without")
        _write(context.out, {"tail": None, "reason": reading})
        return
    total = sum(len(part) for part in reading.texts.values()) + len(reading.texts["calibrate"]) * bool(settings.steps)
    say(
        context.console,
        f"reading {total} windows of up to {settings.window} tokens with both models, {settings.steps} training steps",
    )
    with context.progress("Fitting the tail", total + settings.steps) as bar, quiet(always=True):
        package = context.cfg.package
        plan = Plan(
            settings.steps, settings.batch, settings.rate, settings.tv_from, context.cfg.seed, package.temperature
        )
        tail, report = _fit(context.out / ".training", reading, settings, plan, package.lookahead, bar.advance)
    write_atomic(context.out / TAIL, save(_tensors(tail)))
    keep_test(context.out, reading)
    _write(context.out, report)
    _say(context.console, report)


def _fit(
    work: Path, reading: Reading, settings: TailConfig, plan: Plan, lookahead: int, advance: Advance
) -> tuple[Tail, dict[str, object]]:
    full = open_unpruned(reading)
    head = full.get_output_embeddings()
    sums = tail_fit.moments(reading, advance)
    ranks = list(settings.ranks) if settings.rank is None else [settings.rank]
    tails, spectrum = tail_fit.candidates(reading, head, sums, ranks, list(settings.covers))
    free, rows = tail_fit.choose(reading, tails, settings.max_head_share, lookahead, advance)
    forms = {"full": full, "tli": reading.drafter, "tail_free": tail_form(reading.drafter, free)}
    chosen = {"rank": free.rank, "tokens": len(free.ids), "ranks": rows}
    tail, report = free, {**chosen, "tail": "training-free", "spectrum": _spectrum(spectrum)}
    if settings.steps:
        windows = [ids for _, ids in reading.texts["fit"]]
        trained = tail_fit.trained_tail(reading.drafter, free, reading.target, windows, plan, work, advance)
        forms["tail_trained"] = tail_form(reading.drafter, trained)
        both = {name: forms[name] for name in ("tail_free", "tail_trained")}
        found = tail_fit.acceptances(reading, both, reading.texts["calibrate"], advance)
        if tail_fit.mean(found["tail_trained"]) > tail_fit.mean(found["tail_free"]):
            tail, report["tail"] = trained, "trained"
        report["trained_spectrum"] = _spectrum(Spectrum(_product_values(trained)))
    measured = tail_fit.acceptances(reading, forms, reading.texts["test"], advance)
    report |= {"acceptance": {name: tail_fit.with_interval(rows) for name, rows in measured.items()}}
    report |= {"head_share": tail_fit.head_share(reading, tail), "head_share_short": tail_fit.head_share(reading, None)}
    return tail, report | {"test_documents": len(measured["full"]), "test_tokens": int(measured["full"][:, 0].sum())}


def _product_values(tail: Tail) -> Tensor:
    """Singular values of up @ down, through two small triangles: fp64 (R,)."""
    left, right = (torch.linalg.qr(part.double()).R for part in (tail.up, tail.down.T))
    return torch.linalg.svdvals(left @ right.T)


def _spectrum(spectrum: Spectrum) -> dict[str, object]:
    """Deep networks are known to be biased to low rank (arXiv 2201.12760): what this slice says of itself."""
    return {"stable_rank": spectrum.stable_rank, "values": [float(value) for value in spectrum.values]}


def _tensors(tail: Tail) -> dict[str, Tensor]:
    parts = {"ids": tail.ids, "down": tail.down, "up": tail.up, "bias": tail.bias}
    return {name: part.contiguous() for name, part in parts.items() if part is not None}


def _write(out: Path, report: Mapping[str, object]) -> None:
    shutil.rmtree(out / ".training", ignore_errors=True)
    write_json(out / REPORT, report)


def _say(console: Console, report: Mapping[str, Any]) -> None:
    found = report["acceptance"]
    parts = [f"{name.replace('_', ' ')} {item['mean']:.3f}" for name, item in found.items()]
    say(
        console,
        f"tail of rank {report['rank']} for {report['tokens']:,} tokens, {report['tail']}, "
        f"{report['head_share']:.0%} of the whole head's weights "
        f"(kept rows alone: {report['head_share_short']:.0%}); acceptance on unseen text: {', '.join(parts)}",
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
