"""train-disco: the classifier of the stop policies, calibrated and tuned, and a table of all policies on held-out prompts.

Reads `traces`. Writes ``stop/`` as a package holds it (`drafters.package.components.StopModel`), ``report.json`` and the
training's metrics. The thresholds and the cost-aware rule's rate come from the validation split and costs measured here, so the
output belongs to this device.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig
from rich.console import Console

from drafters.io.atomic import write_json
from drafters.io.safe_load import read_json
from drafters.models.pair import ModelPair
from drafters.package.components import StopModel
from drafters.package.writer import folder_revision
from drafters.stop.classifier import Classifier
from eval.stop.replay import Prices, Trace
from eval.suites.suite import SuiteConfig
from pipeline.config import settings as shared
from pipeline.config.settings import TrackingConfig, read, suite_of
from pipeline.disco.policies import compare
from pipeline.disco.policies.prices import measure_prices
from pipeline.disco.policies.tune import Tuned, tune
from pipeline.disco.setup import open_pair
from pipeline.disco.stop_model import Quality, component, quality, with_parameters, write_component
from pipeline.disco.traces import trace_files, trace_prompts
from pipeline.disco.traces.trace_rows import LABELS, rows_of
from pipeline.disco.train import fit
from pipeline.errors import ConfigError
from pipeline.runner.stage import Context, Stage, Workspace, always, pair_external, say
from pipeline.tracking import loggers

REPORT, CHECKPOINTS = "report.json", ".checkpoints"
Splits = dict[str, list[trace_files.Request]]


@dataclass
class TrainDiscoConfig:
    """How the classifier is trained, and on what the policies are measured."""

    # true: the package holds the classifier, and the stop policies specdecpp, disco and cost_aware apply
    enabled: bool = False
    # Min1_ratio | one_minus_tv | greedy_match: what is learnt, see pipeline/disco/traces/trace_rows.py
    label: str = "min1_ratio"
    hidden: list[int] = field(default_factory=lambda: [32])
    lr: float = 3e-3
    weight_decay: float = 0.01
    batch: int = 256
    epochs: int = 40
    patience: int = 5  # epochs without a smaller validation loss
    devices: int = 1  # more: one process each
    accelerator: str = "cpu"  # the network has 700 weights; the models run on `device`
    strategy: str = "ddp_spawn"  # of Lightning, with more than one device
    max_length: int = 20  # most drafts of any round
    cost_runs: int = 100  # forwards of every kind to time, in ten passes
    suite_prompts: int = 32  # of each suite, for the table
    clock_prompts: int = 16  # of the suite: policies are run and timed on them
    # Further ones for the table, without training on them: <file of conf/suite>: local copy of its rows
    suites: dict[str, str | None] = field(default_factory=dict)


def run(context: Context) -> None:
    """Train, calibrate, measure costs, tune, write the component, compare the policies."""
    cfg, settings = context.cfg, read(context.cfg.train_disco, TrainDiscoConfig)
    splits = _splits(context.inputs["traces"])
    model, fits = _classifier(context, splits, settings, _metrics(context), cfg.seed)
    with context.progress("Opening the models", None):
        opened = open_pair(
            shared.pair_of(cfg), context.inputs, shared.traced_sampler(cfg), device=cfg.device, dtype=cfg.dtype
        )
    prices = measure_prices(context, opened, model, settings.max_length, settings.cost_runs)
    first = {temperature: _first(_traces(splits, "train", temperature)) for temperature in _temperatures(splits)}
    tuned: dict[float, Tuned] = {}
    with context.progress("Tuning policies", len(first)) as bar:
        for temperature, chance in first.items():
            validation = _traces(splits, "validation", temperature)
            tuned[temperature] = tune(validation, Classifier(model), prices, chance, settings.max_length)
            bar.advance()
    how = _comparison(cfg, settings)
    sampler, suite = opened.sampler.name, how.suites[0].name
    hashes = read_json(context.inputs["traces"], REPORT)["splits"]
    trained_on = _trained_on(sampler, settings.label, suite, hashes, list(tuned), prices)
    model = with_parameters(model, {t: found.parameters for t, found in tuned.items()}, trained_on)
    write_component(model, context.out)
    policies = {t: compare.policies(model, found, t, settings.max_length) for t, found in tuned.items()}
    held_out = {temperature: _traces(splits, "test", temperature) for temperature in tuned}
    report = {
        "pair": cfg.pair.name,
        "revisions": _revisions(opened.models),
        "sampler": sampler,
        "prices": asdict(prices) | {"c": prices.marginal()},
        "calibration": fits,
        "tuned": {f"{t:g}": asdict(found) for t, found in tuned.items()},
        "replayed": compare.replayed(context, opened, how, held_out, policies, prices, first),
        "timed_suite": suite,
        "ran": compare.ran(context, opened, how, policies, prices),
    }
    write_json(context.out / REPORT, report)
    shutil.rmtree(context.out / CHECKPOINTS, ignore_errors=True)
    for part in context.out.glob(".part-*"):
        part.unlink()


def _metrics(context: Context) -> list[Logger]:
    tracking, runs = read(context.cfg.tracking, TrackingConfig), Path(context.cfg.runs_dir)
    return loggers("train-disco", context.out, mode=tracking.wandb, project=tracking.project, runs=runs)


def _suites(cfg: DictConfig) -> list[SuiteConfig]:
    """The composed suite and the further ones."""
    return [suite_of(cfg), *shared.named_suites(cfg.train_disco.suites, "train_disco.suites")]


def _comparison(cfg: DictConfig, settings: TrainDiscoConfig) -> compare.Comparison:
    return compare.Comparison(
        suites=_suites(cfg),
        suite_prompts=settings.suite_prompts,
        clock_prompts=settings.clock_prompts,
        max_new_tokens=cfg.traces.max_new_tokens,
        longest=settings.max_length,
        top_k=cfg.package.top_k,
        top_p=cfg.package.top_p,
        seed=cfg.seed,
    )


def _trained_on(
    sampler: str, label: str, suite: str, hashes: Mapping[str, str], temperatures: list[float], prices: Prices
) -> dict[str, str | float]:
    """What the component is valid for, in words and numbers."""
    return {
        **{"sampler": sampler, "label": label, "entropy": "full_vocabulary", "suite": suite},
        **{f"split_{name}": digest for name, digest in hashes.items()},
        **{"temperatures": "+".join(f"{t:g}" for t in temperatures), "target_seconds": prices.target[1]},
        **{"drafter_seconds": prices.drafter, "decision_seconds": prices.stop},
    }


def _revisions(models: ModelPair) -> dict[str, str]:
    """Which models these are, as a package says it: `pair.name` is `local` for all pairs of folders."""
    opened = (models.target.name_or_path, models.drafter.name_or_path)  # of a drafter that borrows, the complete folder
    found = zip(("target", "drafter"), opened, models.revisions, strict=True)
    return {role: revision or folder_revision(Path(folder)) for role, folder, revision in found}


def _splits(folder: Path) -> Splits:
    requests = trace_files.read_shards(folder)
    return {name: [item for item in requests if item.split == name] for name in trace_prompts.SPLITS}


def _temperatures(splits: Splits) -> list[float]:
    return sorted({item.temperature for item in splits["train"]})


def _traces(splits: Splits, name: str, temperature: float) -> list[Trace]:
    return [item.trace for item in splits[name] if item.temperature == temperature]


def _first(traces: list[Trace]) -> float:
    """Mean acceptance of a draft."""
    return float(torch.cat([trace.overlap for trace in traces]).mean())


def _classifier(
    work: Workspace, splits: Splits, settings: TrainDiscoConfig, metrics: list[Logger], seed: int
) -> tuple[StopModel, list[Quality]]:
    """The calibrated network, and how well its probabilities fit the test split."""
    rows = {name: rows_of(items, settings.label) for name, items in splits.items()}
    say(work.console, f"training on {len(rows['train'].label):,} drafts, up to {settings.epochs} epochs")
    with work.progress("Training", settings.epochs, "epochs") as bar:
        module = fit(
            rows["train"],
            rows["validation"],
            settings,
            work.out / CHECKPOINTS,
            seed=seed,
            loggers=metrics,
            advance=bar.advance,
        )
    model = component(module, rows["validation"], settings.hidden)
    tests = {
        temperature: rows_of([item for item in splits["test"] if item.temperature == temperature], settings.label)
        for temperature in _temperatures(splits)
    }
    return model, quality(model, tests)


def show(directory: Path, inputs: dict[str, Path], console: Console) -> None:
    """Print the report's table and the path of its file."""
    compare.show_report(read_json(directory, REPORT), console)
    say(console, f"report: {(directory / REPORT).resolve()}", whole=True)


def inputs(cfg: DictConfig) -> dict[str, str]:
    """The traces, and what they were made of."""
    return {"traces": "traces"} | shared.traced_inputs(cfg)


def config(cfg: DictConfig) -> dict[str, object]:
    """The settings, the suites and the seed; where files lie is no part of it."""
    values = shared.plain(cfg.train_disco)
    values.pop("enabled")
    values["suites"] = sorted(values["suites"])
    shape = {name: cfg.traces[name] for name in ("max_new_tokens", "sampler")}
    return {**values, **shape, "suite": shared.suite_key(suite_of(cfg)), "seed": cfg.seed}


def external(cfg: DictConfig) -> dict[str, str]:
    """The models and the suites."""
    found = pair_external(cfg) | shared.suite_external(suite_of(cfg))
    further = shared.named_suites(cfg.train_disco.suites, "train_disco.suites")
    return found | {f"train_disco.suites.{suite.name}": str(suite.file) for suite in further}


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for settings that cannot work, before anything is loaded."""
    settings = cfg.train_disco
    shared.named_suites(settings.suites, "train_disco.suites")
    for name in ("batch", "epochs", "patience", "devices", "max_length", "cost_runs", "suite_prompts", "clock_prompts"):
        if settings[name] < 1:
            raise ConfigError(f"train_disco.{name}={settings[name]}: expected a whole number from 1")
    if settings.label not in LABELS:
        raise ConfigError(f"train_disco.label={settings.label}: choose one of: {', '.join(LABELS)}")


def brief(directory: Path) -> str:
    """Summarise the run in one line: how well the classifier predicts acceptance."""
    found = read_json(directory, REPORT)["calibration"]
    said = ", ".join(
        f"{item['ece']:.3f} at T = {item['temperature']:g}" for item in found if item["output"] == "accepted"
    )
    return f"stop classifier, calibration error {said}" if said else "stop classifier"


STAGE = Stage(
    name="train-disco",
    run=run,
    inputs=inputs,
    config=config,
    external=external,
    check=check,
    decodes=always,
    measures=True,
    show=show,
    brief=brief,
)
