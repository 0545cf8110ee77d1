"""eval: every sampler at every temperature against plain decoding and the unpruned drafter, on the same prompts.

Writes ``records.jsonl`` (one line per configuration, prompt and repeat: counts and seconds, no text), ``report.json``,
``report.csv`` and ``report.html``. A rerun after a kill goes on after the last finished prompt.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from drafters.generation import check_target
from drafters.package.artifact import load
from drafters.package.model_folder import quiet
from drafters.package.safe_load import read_json
from drafters.pair import ModelPair, load_pair, pair_settings
from drafters.probs import Sampling
from drafters.samplers.guard import LossyError, check_acceptance, processors
from eval import presets, suites, summary
from eval.contenders import Contender, Drafter, Stops, contenders
from eval.costs import Costs, measure_costs
from eval.greedy import GreedyCheck
from eval.harness import Harness, Task, Warps
from eval.laws import Laws
from eval.lineup import lineup
from eval.losslessness.certificate import read_certificate
from eval.presets import Preset
from eval.records import PACKAGE, TAILED, UNPRUNED
from eval.report.table import show as show_report
from eval.report.write import to_csv, to_json
from pipeline import executors_of, measuring, stops_of
from pipeline.discovery import suggest
from pipeline.errors import ConfigError, PipelineError
from pipeline.reporting import report, write_page
from pipeline.stage import Context, Stage, write_atomic

REPORT, PAGE = "report.json", "report.html"


@dataclass
class EvalConfig:
    """What is measured, and how long."""

    temperatures: list[float] = field(default_factory=lambda: [0.0, 0.7, 1.0])
    top_k: int = 0  # of the target's law; 0: off
    top_p: float = 1.0  # 1: off
    draft_temperature: float | None = None  # of the drafter's own law, which may be any; null: the target's warp
    draft_top_k: int = 0  # with draft_temperature
    draft_top_p: float = 1.0
    samplers: list[str] | None = None  # names of conf/sampler; null: all that apply
    stops: list[str] | None = None  # names of conf/stop, each with every sampler that allows it; null: `stop` alone
    compare: bool = True  # also the other drafters and variants that the comparisons of papers need
    prompts: int | None = None  # of the suite; null: all
    minutes: float | None = None  # begin no further prompt after that; null: no limit
    max_new_tokens: int = 128
    repeats: int = 3  # of every prompt; the median of the seconds counts
    cost_runs: int = 50  # forwards of every kind to time
    law_rounds: int = 48  # rounds per row whose laws (p, q) are logged; 0: no optimum beside the rows
    compile: bool = (
        False  # compile the forwards that recur (torch.compile): minutes first, then about 1.6x as fast on a CPU
    )
    more_drafters: dict[str, str] = field(default_factory=dict)  # name -> folder or org/name@<40 hex digits>


def run(context: Context) -> None:
    """Measure costs and laws, then all contenders prompt by prompt; write records and report."""
    cfg, settings = context.cfg, context.cfg.eval
    with quiet(always=True):
        package = load(context.inputs["package"], device=cfg.device, dtype=cfg.dtype)
        models = load_pair(pair_settings(cfg.pair), device=cfg.device, dtype=cfg.dtype)
        check_target(models.target, package)
        pair, more = pair_settings(cfg.pair), settings.more_drafters
        drafters = list(lineup(pair, models, package, more, cfg.device, cfg.dtype, settings.compile))
    bent = _generation_settings(models)
    tasks, stops = _tasks(cfg, models), {t: stops_of.policies(cfg, t, package.stop) for t in settings.temperatures}
    # One forward verifies a whole chain; t(1) to t(8) show how its cost grows.
    longest = max(stop.max_length for named in stops.values() for stop in named.values())
    lengths = range(1, max(8, longest + 1) + 1)
    costs = measure_costs(
        {drafter.name: drafter.pair for drafter in drafters}, tasks[0].ids, lengths, settings.cost_runs
    )
    warps = Warps(settings.top_k, settings.top_p, _draft(settings))
    laws = Laws([task.ids for task in tasks], settings.law_rounds, cfg.seed, warps, settings.max_new_tokens)
    found = _contenders(context, drafters, stops.__getitem__, laws)
    _announce(context, len(found), len(tasks), costs)
    optima = measuring.watched(context, laws, found) if settings.law_rounds else {}
    check = GreedyCheck(models.target)
    harness = Harness(found, drafters[0].pair.device, settings.max_new_tokens, cfg.seed, check, warps)
    records = list(measuring.records(context, harness, tasks))
    evidence = summary.Evidence(optima, laws.known, read_certificate(cfg.runs_dir))
    shipped = bool((evidence.certificate or {}).get("shipped"))
    made = report(cfg, records, package, costs, harness, evidence) | {
        "not_applied": bent,
        "certificate_shipped": shipped,
    }
    write_atomic(context.out / "records.jsonl", "".join(f"{item.to_json()}\n" for item in records).encode())
    write_atomic(context.out / "report.csv", to_csv(made))
    write_atomic(context.out / REPORT, to_json(made))
    write_page(context, made, evidence.certificate)
    measuring.sweep(context.out)


def _generation_settings(models: ModelPair) -> dict[str, Any]:
    """What the target's generation config would do to its law in plain decoding elsewhere, and is not done here.

    Raises LossyError where one of the models' relaxes acceptance.
    """
    roles = (
        (role, model.generation_config) for role, model in (("target", models.target), ("drafter", models.drafter))
    )
    settings = {role: {} if config is None else config.to_dict() for role, config in roles}
    for role, values in settings.items():
        check_acceptance(f"the {role}'s generation_config.json", values)
    return processors(settings["target"])


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


def _draft(settings: DictConfig) -> Sampling | None:
    if settings.draft_temperature is None:
        return None
    return Sampling(settings.draft_temperature, settings.draft_top_k, settings.draft_top_p)


def _presets(cfg: DictConfig) -> list[Preset]:
    """The samplers asked for, variants only where named or compared. Raises ValueError as `presets.parse` does."""
    every: Any = OmegaConf.to_container(cfg.samplers, resolve=True)
    if cfg.sampler is not None:
        one: Any = OmegaConf.to_container(cfg.sampler, resolve=True)
        label = next((name for name, values in every.items() if values == one), str(one.get("name")))
        return presets.parse({label: one})
    found = presets.parse(every, cfg.eval.samplers)
    return found if cfg.eval.compare or cfg.eval.samplers is not None else [item for item in found if item.plain]


def _contenders(context: Context, drafters: list[Drafter], stops: Stops, laws: Laws) -> list[Contender]:
    settings = context.cfg.eval

    def rank_law(drafter: Drafter, temperature: float) -> list[float] | None:
        found = measuring.ranks(context, laws, drafter, temperature) if settings.law_rounds else None
        return None if found is None else found.law

    chosen, compare = _presets(context.cfg), settings.compare
    executors, heats = executors_of.executors(context.cfg), list(settings.temperatures)
    return contenders(drafters, stops, heats, chosen, compare=compare, rank_law=rank_law, executors=executors)


def _announce(context: Context, configurations: int, prompts: int, costs: Costs) -> None:
    settings = context.cfg.eval
    seconds = configurations * prompts * settings.max_new_tokens * settings.repeats * costs.t
    limited = settings.minutes is not None and seconds > 60 * settings.minutes
    how_long = f"as many as fit into {settings.minutes:g} min" if limited else f"about {_duration(seconds)}"
    context.console.print(
        f"evaluating {configurations} configurations on {prompts} prompts, {settings.repeats} x, up to "
        f"{settings.max_new_tokens} tokens each: {how_long}",
        highlight=False,
        soft_wrap=True,
    )


def _duration(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 600 else f"{seconds / 60:,.0f} min; eval.minutes=... sets a limit"


def show(directory: Path, inputs: dict[str, Path], console: Console) -> None:
    """Print the tables, the coverage, the package's and the report's path.

    Raises PipelineError where a greedy output is not the target's own: no figure of such a run can be trusted.
    """
    found = summary.proved_since(read_json(directory, REPORT), read_certificate(directory.parents[1]))
    show_report(found, console)
    console.print(f"package: {inputs['package'].resolve()}", highlight=False, markup=False, soft_wrap=True)
    path = (directory / REPORT).resolve()
    if (page := path.with_name(PAGE)).exists():
        console.print(f"to look at: {page}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"report: {path}", highlight=False, markup=False, soft_wrap=True)
    greedy = found["greedy_identity"]
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
    """The settings, the samplers, the stop policy, the prompts and the seed; where folders lie is no part of it."""
    values: Any = OmegaConf.to_container(cfg.eval, resolve=True, throw_on_missing=True)
    values["more_drafters"] = sorted(values["more_drafters"])
    values["samplers"] = [asdict(preset) for preset in _presets(cfg)]
    return {
        **values,
        "stops": stops_of.files(cfg),
        "executor": executors_of.settings(cfg),
        "suite": _suite(cfg) | {"path": None},
        "seed": cfg.seed,
        "pair": cfg.pair.name,
    }


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
    if settings.law_rounds < 0:
        raise ConfigError(f"eval.law_rounds={settings.law_rounds}: expected a whole number from 0 (none logged)")
    if settings.minutes is not None and not settings.minutes > 0:
        raise ConfigError(f"eval.minutes={settings.minutes}: expected a number above 0, or null for no limit")
    if not settings.temperatures or len(set(settings.temperatures)) < len(settings.temperatures):
        raise ConfigError(f"eval.temperatures={settings.temperatures}: expected different numbers from 0, e.g. [0, 1]")
    for name in settings.samplers or ():
        if name not in cfg.samplers:
            raise ConfigError(f"eval.samplers: {name}: no such sampler; {suggest(name, cfg.samplers)}")
    if taken := {UNPRUNED, PACKAGE, TAILED} & set(settings.more_drafters):
        raise ConfigError(
            f"eval.more_drafters.{taken.pop()}: that name is taken by the pair's own drafter; choose another"
        )
    for name in settings.stops or ():
        if name not in cfg.stops:
            raise ConfigError(f"eval.stops: {name}: no such stop policy; {suggest(name, cfg.stops)}")
    try:
        _presets(cfg)
        _draft(settings)
        for temperature in settings.temperatures:
            Sampling(temperature, settings.top_k, settings.top_p)
        stops_of.check(cfg)
        executors_of.check(cfg)
    except (ValueError, LossyError) as error:
        raise ConfigError(f"eval: {error}") from error


STAGE = Stage(
    name="eval", run=run, inputs=inputs, config=config, external=external, check=check, measures=True, show=show
)
