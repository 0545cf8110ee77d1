"""train-disco: the classifier of the stop policies, calibrated and tuned, and a table of all policies on held-out prompts.

Reads `traces`. Writes ``stop/`` as a package holds it (`drafters.package.components.StopModel`), ``report.json`` and the
training's metrics. The thresholds and the cost-aware rule's rate come from the validation split and costs measured here, so the
output belongs to this device.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from drafters.io.atomic import write_json
from drafters.io.safe_load import read_json
from drafters.models.pair import ModelPair
from drafters.package.components import StopModel
from drafters.package.writer import folder_revision
from drafters.stop.classifier import Classifier
from eval.stop.replay import Trace
from pipeline import tracking
from pipeline.disco.calibration import curves, expected_calibration_error
from pipeline.disco.classifier_module import OUTPUTS
from pipeline.disco.policies import compare
from pipeline.disco.policies.policy_table import show_report
from pipeline.disco.policies.prices import measure_prices
from pipeline.disco.policies.tune import Tuned, tune
from pipeline.disco.setup import models_external, open_pair, stage_inputs
from pipeline.disco.stop_model import component, with_parameters, write_component
from pipeline.disco.traces import trace_files, trace_prompts
from pipeline.disco.traces.trace_rows import LABELS, rows_of
from pipeline.disco.train import fit
from pipeline.errors import ConfigError
from pipeline.runner.stage import Context, Stage, always

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
    cfg, settings = context.cfg, context.cfg.train_disco
    splits = _splits(context.inputs["traces"])
    model, quality = _classifier(context, splits)
    with context.progress("Opening the models", None):
        opened = open_pair(cfg, context.inputs)
    prices = measure_prices(context, opened, model)
    first = {temperature: _first(_traces(splits, "train", temperature)) for temperature in _temperatures(splits)}
    tuned: dict[float, Tuned] = {}
    with context.progress("Tuning policies", len(first)) as bar:
        for temperature, chance in first.items():
            validation = _traces(splits, "validation", temperature)
            tuned[temperature] = tune(validation, Classifier(model), prices, chance, settings.max_length)
            bar.advance()
    sampler, splits_said = opened.sampler.name, read_json(context.inputs["traces"], REPORT)["splits"]
    trained_on = {"sampler": sampler, "label": settings.label, "entropy": "full_vocabulary", "suite": cfg.suite.name}
    trained_on |= {f"split_{name}": digest for name, digest in splits_said.items()}
    trained_on |= {"temperatures": "+".join(f"{t:g}" for t in tuned), "target_seconds": prices.target[1]}
    trained_on |= {"drafter_seconds": prices.drafter, "decision_seconds": prices.stop}
    model = with_parameters(model, {t: found.parameters for t, found in tuned.items()}, trained_on)
    write_component(model, context.out)
    policies = {t: compare.policies(model, found, t, settings.max_length) for t, found in tuned.items()}
    held_out = {temperature: _traces(splits, "test", temperature) for temperature in tuned}
    report = {
        "pair": cfg.pair.name,
        "revisions": _revisions(opened.models),
        "sampler": sampler,
        "prices": asdict(prices) | {"c": prices.marginal()},
        "calibration": quality,
        "tuned": {f"{t:g}": asdict(found) for t, found in tuned.items()},
        "replayed": compare.replayed(context, opened, held_out, policies, prices, first),
        "timed_suite": cfg.suite.name,
        "ran": compare.ran(context, opened, policies, prices),
    }
    write_json(context.out / REPORT, report)
    shutil.rmtree(context.out / CHECKPOINTS, ignore_errors=True)
    for part in context.out.glob(".part-*"):
        part.unlink()


def _revisions(models: ModelPair) -> dict[str, str]:
    """Which models these are, as a package says it: `pair.name` is `local` for all pairs of folders."""
    found = zip(("target", "drafter"), models.ids, models.revisions, strict=True)
    return {role: revision or folder_revision(Path(name)) for role, name, revision in found}


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


def _classifier(context: Context, splits: Splits) -> tuple[StopModel, list[dict[str, Any]]]:
    """The calibrated network, and how well its probabilities fit the test split."""
    cfg, settings = context.cfg, context.cfg.train_disco
    rows = {name: rows_of(items, settings.label) for name, items in splits.items()}
    context.console.print(
        f"training on {len(rows['train'].label):,} drafts, up to {settings.epochs} epochs", highlight=False
    )
    with context.progress("Training", settings.epochs, "epochs") as bar:
        module = fit(
            rows["train"],
            rows["validation"],
            settings,
            context.out / CHECKPOINTS,
            seed=cfg.seed,
            loggers=tracking.loggers(cfg, context.out, "train-disco"),
            advance=bar.advance,
        )
    model = component(module, rows["validation"], list(settings.hidden))
    classifier, quality = Classifier(model), []
    for temperature in _temperatures(splits):
        test = rows_of([item for item in splits["test"] if item.temperature == temperature], settings.label)
        said = classifier(test.features)
        for output, name in enumerate(OUTPUTS):
            known = test.known[:, output]
            if not bool(known.any()):
                continue  # no draft was accepted: nothing to compare the second output with
            error = expected_calibration_error(said[known, output], test.happened[known, output])
            drawn = curves(said[known, output], test.happened[known, output])
            quality.append(
                {"temperature": temperature, "output": name, "drafts": int(known.sum()), "ece": error, **drawn}
            )
    return model, quality


def show(directory: Path, inputs: dict[str, Path], console: Console) -> None:
    """Print the report's table and the path of its file."""
    show_report(read_json(directory, REPORT), console)
    console.print(f"report: {(directory / REPORT).resolve()}", highlight=False, markup=False, soft_wrap=True)


def inputs(cfg: DictConfig) -> dict[str, str]:
    """The traces, and what they were made of."""
    return {"traces": "traces"} | stage_inputs(cfg)


def config(cfg: DictConfig) -> dict[str, Any]:
    """The settings, the suites and the seed; where files lie is no part of it."""
    values: Any = OmegaConf.to_container(cfg.train_disco, resolve=True, throw_on_missing=True)
    values.pop("enabled")
    values["suites"] = sorted(values["suites"])
    shape = {name: cfg.traces[name] for name in ("max_new_tokens", "sampler")}
    return {**values, **shape, "suite": trace_prompts.suite_values(cfg) | {"path": None}, "seed": cfg.seed}


def external(cfg: DictConfig) -> dict[str, str]:
    """The models and the suites."""
    found = models_external(cfg) | trace_prompts.suite_external(cfg)
    return found | {f"train_disco.suites.{name}": path for name, path in cfg.train_disco.suites.items() if path}


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for settings that cannot work, before anything is loaded."""
    settings = cfg.train_disco
    for name, path in settings.suites.items():
        if trace_prompts.named_suite(str(name), path).path is None:
            raise ConfigError(
                f"train_disco.suites.{name}: expected a local copy of its rows, train_disco.suites.{name}=FILE"
            )
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
