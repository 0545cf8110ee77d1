"""eval: every sampler at every temperature against plain decoding and the unpruned drafter, on the same prompts.

Writes ``records.jsonl`` (one line per configuration, prompt and repeat: counts and seconds, no text), ``report.json``
and ``report.csv``. A rerun after a kill goes on after the last finished prompt.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from drafters.generation import check_target
from drafters.package.artifact import Package, load
from drafters.package.model_folder import quiet
from drafters.package.safe_load import read_json
from drafters.pair import ModelPair, load_pair, pair_settings
from drafters.probs import Sampling
from drafters.samplers.catalog import CATALOG
from drafters.stop.policy import StopPolicy
from drafters.stop.static import Static
from eval import metrics, suites
from eval.contenders import Drafter, contenders, reference
from eval.costs import Costs, cost_report, measure_costs
from eval.greedy import GreedyCheck
from eval.harness import Harness, Task
from eval.lineup import lineup
from eval.records import AUTOREGRESSIVE, PACKAGE, UNPRUNED, Record, parse
from eval.report.table import show as show_report
from eval.report.write import assemble, to_csv, to_json
from pipeline.discovery import suggest
from pipeline.errors import ConfigError, PipelineError
from pipeline.stage import Context, Stage, write_atomic

REPORT = "report.json"


@dataclass
class EvalConfig:
    """What is measured, and how long."""

    temperatures: list[float] = field(default_factory=lambda: [0.0, 1.0])
    samplers: list[str] | None = None  # null: all that apply
    prompts: int | None = None  # of the suite; null: all
    minutes: float | None = None  # begin no further prompt after that; null: no limit
    max_new_tokens: int = 128
    repeats: int = 3  # of every prompt; the median of the seconds counts
    cost_runs: int = 50  # forwards of every kind to time
    more_drafters: dict[str, str] = field(default_factory=dict)  # name -> folder or org/name@<40 hex digits>


def run(context: Context) -> None:
    """Measure costs, then all contenders prompt by prompt; write records and report."""
    cfg, settings = context.cfg, context.cfg.eval
    with quiet(always=True):
        package = load(context.inputs["package"], device=cfg.device, dtype=cfg.dtype)
        models = load_pair(pair_settings(cfg.pair), device=cfg.device, dtype=cfg.dtype)
        check_target(models.target, package)
        drafters = list(lineup(pair_settings(cfg.pair), models, package, settings.more_drafters, cfg.device, cfg.dtype))
    tasks = _tasks(cfg, models)
    stop = _stop(cfg.stop)
    # One forward verifies a whole chain; t(1) to t(8) show how its cost grows.
    lengths = range(1, max(8, stop.max_length + 1) + 1)
    costs = measure_costs(
        {drafter.name: drafter.pair for drafter in drafters}, tasks[0].ids, lengths, settings.cost_runs
    )
    harness = Harness(
        contenders=contenders(drafters, stop, cfg.stop.name, list(settings.temperatures), settings.samplers),
        device=drafters[0].pair.device,
        max_new_tokens=settings.max_new_tokens,
        seed=cfg.seed,
        check=GreedyCheck(models.target),
    )
    _announce(context, harness, len(tasks), costs)
    records = list(_records(context, harness, tasks))
    report = _report(context, records, drafters, package, costs, harness)
    write_atomic(context.out / "records.jsonl", "".join(f"{item.to_json()}\n" for item in records).encode())
    write_atomic(context.out / "report.csv", to_csv(report))
    write_atomic(context.out / REPORT, to_json(report))
    for part in context.out.glob(".part-*"):
        part.unlink()


def _tasks(cfg: DictConfig, models: ModelPair) -> list[Task]:
    settings, limit = cfg.eval, models.context_lengths[0]
    room = None if limit is None else limit - settings.max_new_tokens
    if room is not None and room < 1:
        raise ConfigError(
            f"eval.max_new_tokens={settings.max_new_tokens}: the target's context holds {limit} tokens, prompt included; "
            f"set it below {limit}"
        )
    tokenizer = models.target_tokenizer
    prompts = suites.load(_suite(cfg), tokenizer, settings.prompts, cfg.seed)
    return [Task(number, prompt.id, suites.encode(prompt, tokenizer, room)) for number, prompt in enumerate(prompts)]


def _stop(settings: DictConfig) -> StopPolicy:
    return Static(settings.length)


def _announce(context: Context, harness: Harness, prompts: int, costs: Costs) -> None:
    settings = context.cfg.eval
    seconds = len(harness.contenders) * prompts * settings.max_new_tokens * settings.repeats * costs.t
    limited = settings.minutes is not None and seconds > 60 * settings.minutes
    how_long = f"as many as fit into {settings.minutes:g} min" if limited else f"about {seconds:,.0f} s"
    context.console.print(
        f"evaluating {len(harness.contenders)} configurations on {prompts} prompts, {settings.repeats} x, up to "
        f"{settings.max_new_tokens} tokens each: {how_long}",
        highlight=False,
        soft_wrap=True,
    )


def _records(context: Context, harness: Harness, tasks: list[Task]) -> Iterator[Record]:
    """Records of every repeat and prompt, in that order; a prompt whose part file is there is not measured again.

    Past eval.minutes no further prompt is begun, but two there must be: an interval over one is none.
    """
    repeats, configurations = context.cfg.eval.repeats, len(harness.contenders)
    limit = math.inf if context.cfg.eval.minutes is None else 60 * context.cfg.eval.minutes
    warm, begin = False, time.monotonic()
    with context.progress("Evaluating", repeats * len(tasks) * configurations) as bar:
        for repeat in range(repeats):
            for task in tasks:
                part = context.out / f".part-{repeat:03d}-{task.number:06d}.jsonl"
                late = time.monotonic() - begin > limit and (repeat > 0 or task.number > 1)
                if late and not part.exists():
                    return
                if part.exists():
                    bar.advance(configurations)
                else:
                    if not warm:
                        harness.warm_up(task)
                        warm = True
                    found = harness.trial(task, repeat, bar.advance)
                    write_atomic(part, "".join(f"{item.to_json()}\n" for item in found).encode())
                yield from map(parse, part.read_text(encoding="utf-8").splitlines())


def _report(
    context: Context,
    records: list[Record],
    drafters: list[Drafter],
    package: Package,
    costs: Costs,
    harness: Harness,
) -> dict[str, Any]:
    cfg, description = context.cfg, package.description
    rows = metrics.rows(records, reference(drafters[0]).name)
    for row in rows:
        row["speedup_by_costs"] = _by_costs(row, costs)
    head = {
        "device": harness.device.type,
        "dtype": {torch.float32: "fp32", torch.bfloat16: "bf16"}[harness.check.target.dtype],
        "pair": cfg.pair.name,
        "vocabulary": len(package.vocab.to_drafter),
        "kept": len(package.kept),
        "coverage": description["coverage"],
        "costs": cost_report(costs, UNPRUNED, PACKAGE),
    }
    extra = {
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
        "greedy_identity": metrics.greedy_identity(records, harness.check.exact),
        "definitions": metrics.DEFINITIONS,
    }
    return assemble(head, rows, extra)


def _by_costs(row: dict[str, Any], costs: Costs) -> float | None:
    if row["executor"] == AUTOREGRESSIVE or not row["target_forwards"]:
        return None
    return costs.speedup(row["drafter"], row["block_efficiency"], row["drafted"] / row["target_forwards"])


def show(directory: Path, inputs: dict[str, Path], console: Console) -> None:
    """Print the table, the coverage, the package's and the report's path.

    Raises PipelineError where a greedy output is not the target's own: no figure of such a run can be trusted.
    """
    report = read_json(directory, REPORT)
    show_report(report, console)
    console.print(f"package: {inputs['package'].resolve()}", highlight=False, markup=False, soft_wrap=True)
    path = (directory / REPORT).resolve()
    console.print(f"report: {path}", highlight=False, markup=False, soft_wrap=True)
    greedy = report["greedy_identity"]
    if greedy["status"] == "error":
        failed = ", ".join(f"{item['sampler']} on {item['prompt']}" for item in greedy["failed"][:3])
        raise PipelineError(
            f"{greedy['different']} of {greedy['outputs']} greedy outputs differ from plain greedy decoding and are no "
            f"ties ({failed}), expected none: a sampler is not lossless here; see {path}"
        )


def _suite(cfg: DictConfig) -> dict[str, Any]:
    values: Any = OmegaConf.to_container(cfg.suite, resolve=True, throw_on_missing=True)
    return {str(name): value for name, value in values.items()}


def inputs(cfg: DictConfig) -> dict[str, str]:
    """The package on trial."""
    return {"package": "package"}


def config(cfg: DictConfig) -> dict[str, Any]:
    """The settings, the stop policy, the prompts and the seed; where folders lie is no part of it."""
    values: Any = OmegaConf.to_container(cfg.eval, resolve=True, throw_on_missing=True)
    values["more_drafters"] = sorted(values["more_drafters"])
    stop = OmegaConf.to_container(cfg.stop, resolve=True, throw_on_missing=True)
    return {**values, "stop": stop, "suite": _suite(cfg) | {"path": None}, "seed": cfg.seed, "pair": cfg.pair.name}


def external(cfg: DictConfig) -> dict[str, str]:
    """Both models, further drafters, and the prompts."""
    found = {}
    for role in ("target", "drafter"):
        revision = cfg.pair.get(f"{role}_revision")
        found[role] = f"{cfg.pair[role]}@{revision}" if revision else str(cfg.pair[role])
    found |= {f"more_drafters.{name}": where for name, where in cfg.eval.more_drafters.items()}
    suite = suites.suite_config(_suite(cfg))
    if suite.path is None:
        return found | {"suite": f"{suite.hub}@{suite.revision}"}
    embedded = suites.EMBEDDED / suite.path
    return found | {"suite": str(embedded if embedded.is_file() else suite.path)}


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for settings that cannot work, before anything is loaded."""
    settings = cfg.eval
    for name in ("prompts", "max_new_tokens", "repeats", "cost_runs"):
        if settings[name] is not None and settings[name] < 1:
            raise ConfigError(f"eval.{name}={settings[name]}: expected a whole number from 1")
    if settings.minutes is not None and not settings.minutes > 0:
        raise ConfigError(f"eval.minutes={settings.minutes}: expected a number above 0, or null for no limit")
    if not settings.temperatures or len(set(settings.temperatures)) < len(settings.temperatures):
        raise ConfigError(f"eval.temperatures={settings.temperatures}: expected different numbers from 0, e.g. [0, 1]")
    for name in settings.samplers or ():
        if name not in CATALOG:
            raise ConfigError(f"eval.samplers: {name}: no such sampler; {suggest(name, CATALOG)}")
    if taken := {UNPRUNED, PACKAGE} & set(settings.more_drafters):
        raise ConfigError(
            f"eval.more_drafters.{taken.pop()}: that name is taken by the pair's own drafter; choose another"
        )
    if cfg.stop.name != "static":
        raise ConfigError(f"stop={cfg.stop.name}: no such stop policy; {suggest(cfg.stop.name, ['static'])}")
    try:
        for temperature in settings.temperatures:
            Sampling(temperature)
        _stop(cfg.stop)
    except ValueError as error:
        raise ConfigError(f"eval: {error}") from error


STAGE = Stage(
    name="eval", run=run, inputs=inputs, config=config, external=external, check=check, measures=True, show=show
)
