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

from drafters.io.atomic import write_atomic
from drafters.package.integrity import RECOMMENDED
from drafters.package.recommendation.recommended_json import write_recommendation
from drafters.probs import Sampling
from drafters.samplers.lossy_settings import LossyError
from drafters.stop.policy import StopError
from eval.acceptance.logged_laws import Laws
from eval.costs.forwards import WARM_UP, Costs, measure_costs
from eval.lossless.certificate import read_certificate
from eval.report.annotations import RowEvidence, proved_since
from eval.report.schema import Report, to_csv, to_json
from eval.report.sources import read_report
from eval.report.terminal.table import show as show_report
from eval.run.configurations import Contender, Drafter
from eval.run.records import PACKAGE, TAILED, UNPRUNED
from eval.run.trials import Harness, Task
from eval.suites import suite as suites
from eval.verdict.prediction import work
from pipeline.errors import ConfigError, PipelineError
from pipeline.evaluate import cells as measuring
from pipeline.evaluate import executors, setup, stop_settings
from pipeline.evaluate.report import report, write_page
from pipeline.evaluate.text_expectations import expected_rows, on_common_text
from pipeline.evaluate.verdict.few_rows import few
from pipeline.evaluate.verdict.verdict_run import Judged, judge, recommendation, split
from pipeline.runner.discovery import suggest
from pipeline.runner.stage import Context, Stage, always

REPORT, PAGE = "report.json", "report.html"


@dataclass
class EvalConfig:
    """The settings of stage=eval: what is measured, and for how long."""

    temperatures: list[float] = field(default_factory=lambda: [0.0, 0.7, 1.0])
    top_k: int = 0  # of the target's distribution; 0: off
    top_p: float = 1.0  # 1: off
    # Of the drafter's own distribution, which may be any; null: the target's temperature, top_k and top_p
    draft_temperature: float | None = None
    draft_top_k: int = 0  # with draft_temperature
    draft_top_p: float = 1.0
    # Files of conf/sampler; null: all that apply. Their options are samplers.<name>.<option>
    samplers: list[str] | None = None
    # Files of conf/stop, each with every sampler that allows it; null: the chosen `stop` alone
    stops: list[str] | None = None
    compare: bool = True  # also the other drafters and variants that the comparisons of papers need
    prompts: int | None = None  # of the suite; null: all
    minutes: float | None = 60.0  # begin no further prompt after that; null: no limit
    max_new_tokens: int = 128
    repeats: int = 1  # of every prompt; the median of the seconds counts
    cost_runs: int = 50  # forwards of every kind to time
    law_rounds: int = 48  # rounds per row whose distributions (p, q) are logged; 0: no optimum beside the rows
    # Of the target's own text on which both models' distributions are read, per temperature; 0: no verdict
    positions: int = 4000
    rows: str = "all"  # all | few: time one tree per drafter, no sampler that does what another one does, the package's forms alone
    confirm_prompts: int = 24  # kept back from all else: the verdict's candidates run on them by the clock
    confirm_minutes: float = 20.0  # of that, per temperature
    # Compile the forwards that recur (torch.compile): minutes first, then about 2.5x as fast on a CPU
    compile: bool = False
    # Measured unpruned beside the pair's own: name: folder, or org/name@<40 hex digits>
    more_drafters: dict[str, str] = field(default_factory=dict)


def run(context: Context) -> None:
    """Log p and q, measure costs, time all contenders by prompt, conclude; write records, report and recommendation."""
    cfg, settings = context.cfg, context.cfg.eval
    with context.progress("Opening the models", None):
        bench = setup.opened(cfg, context.inputs["package"])
    tasks, unseen = split(bench.tasks, settings.confirm_prompts if settings.positions else 0)
    laws = Laws([task.ids for task in tasks], settings.law_rounds, cfg.seed, bench.warps, settings.max_new_tokens)

    def rank_law(drafter: Drafter, temperature: float) -> list[float] | None:
        found = measuring.ranks(context, laws, drafter, temperature) if settings.law_rounds else None
        return None if found is None else found.law

    with context.progress("Logging the ranks of drafts", None):
        every = bench.contenders(cfg, rank_law)
    costs = measuring.costs(context, lambda: _costs(context, bench, tasks, every))
    common = {}
    if settings.positions:
        presets = setup.chosen_presets(cfg)
        common = on_common_text(context, bench, tasks, every, presets, rank_law)
    found, left_out = few(every, common, costs) if settings.rows == "few" else (every, [])
    _announce(context, len(found), len(tasks), costs)
    optima = measuring.watched(context, laws, found) if settings.law_rounds else {}
    harness = bench.harness(cfg, found)
    records = list(measuring.records(context, len(found), tasks, _cells(context, harness, tasks, laws)))
    judged = judge(context, bench, common, costs, records, found, unseen)
    evidence = RowEvidence(
        optima, laws.known, read_certificate(cfg.runs_dir), expected_rows(common, found) if common else {}
    )
    made = report(context, bench, records, costs, harness, evidence, judged, left_out)
    write_atomic(context.out / "records.jsonl", "".join(f"{item.to_json()}\n" for item in records).encode())
    write_atomic(context.out / "report.csv", to_csv(made))
    write_atomic(context.out / REPORT, to_json(made))
    _recommend(context, bench, judged, made)
    write_page(context, made, evidence.certificate)
    measuring.sweep(context.out)


def _costs(context: Context, bench: setup.Bench, tasks: list[Task], contenders: list[Contender]) -> Costs:
    """Prices of all forwards that the contenders' rounds are made of, and of t(1) to t(8): how verification grows."""
    trees = [work(item.sampler, item.stop.max_length) for item in contenders if item.sampler and item.stop]
    lengths = {*range(1, max(8, bench.longest + 1) + 1), *(own.nodes[-1] + 1 for own in trees)}
    widths = {n for own in trees for n in own.drafts[-1]} - {1}
    pairs = {drafter.name: drafter.pair for drafter in bench.drafters}
    runs = context.cfg.eval.cost_runs
    with context.progress("Timing forwards", runs + WARM_UP) as bar:
        return measure_costs(pairs, tasks[0].ids, sorted(lengths), runs, sorted(widths), bar.advance)


def _recommend(context: Context, bench: setup.Bench, judged: Judged, made: Report) -> None:
    """recommended.json, in the stage's own directory and beside the package, where `drafters.load` finds it."""
    if not judged.choices:
        return
    package = context.inputs["package"].resolve()
    place = made.device, made.dtype, made.threads
    found = recommendation(context.cfg, bench, bench.package.manifest, judged, *place)
    write_recommendation(context.out / RECOMMENDED, found)
    write_recommendation(package.with_name(f"{package.name}.{RECOMMENDED}"), found)


def _cells(context: Context, harness: Harness, tasks: list[Task], laws: Laws) -> measuring.Make:
    """Who measures: this process, or the processes of a Ray cluster."""
    if OmegaConf.select(context.cfg, "hardware.backend", default="local") != "ray":
        return measuring.here(harness, tasks)
    from pipeline.evaluate.ray import cells  # here: Ray is an extra

    known = {key: found.law for key, found in laws.known.items()}
    return cells(context.cfg, context.inputs["package"], known, tasks, harness.contenders)


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
    found = proved_since(read_report(directory / REPORT), read_certificate(directory.parents[1]))
    show_report(found, console)
    if (
        recommended := directory / RECOMMENDED
    ).exists():  # of several evaluations of a package the one asked for last counts
        package = inputs["package"].resolve()
        write_atomic(package.with_name(f"{package.name}.{RECOMMENDED}"), recommended.read_bytes())
    path = (directory / REPORT).resolve()
    page = path.with_name(PAGE)
    for label, where in (("package", inputs["package"].resolve()), ("report", page if page.exists() else path)):
        console.print(f"{label}: {where}", highlight=False, markup=False, soft_wrap=True)
    greedy = found.greedy_identity
    if greedy.status == "error":
        failed = ", ".join(f"{item.sampler} on {item.prompt}" for item in greedy.failed[:3])
        raise PipelineError(
            f"{greedy.different} of {greedy.outputs} greedy outputs differ from plain greedy decoding and are no "
            f"ties ({failed}), expected none: a sampler is not lossless here; see {path}"
        )


def inputs(cfg: DictConfig) -> dict[str, str]:
    """The package on trial, and the stages whose figures it must give again."""
    made = {name: name for name in ("affinity", "tail") if cfg[name].enabled}
    return {"package": "package"} | made


def config(cfg: DictConfig) -> dict[str, Any]:
    """The settings, the samplers, the stop policy, the prompts and the seed; where folders lie is no part of it."""
    values: Any = OmegaConf.to_container(cfg.eval, resolve=True, throw_on_missing=True)
    values["more_drafters"] = sorted(values["more_drafters"])
    values["samplers"] = [asdict(preset) for preset in setup.chosen_presets(cfg)]
    return {
        **values,
        "stops": stop_settings.files(cfg),
        "executor": executors.settings(cfg),
        "suite": setup.suite_of(cfg) | {"path": None},
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
    suite = suites.suite_config(setup.suite_of(cfg))
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
    if settings.positions < 0 or settings.confirm_prompts < 0 or not settings.confirm_minutes > 0:
        raise ConfigError("eval: expected positions and confirm_prompts from 0 and confirm_minutes above 0")
    if settings.rows not in ("all", "few"):
        raise ConfigError(f"eval.rows={settings.rows}: expected all, or few to time only those that say most")
    if settings.rows == "few" and not settings.positions:
        raise ConfigError("eval.rows=few: which rows say most follows from the laws: set eval.positions above 0")
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
        setup.chosen_presets(cfg)
        setup.draft_sampling(settings)
        for temperature in settings.temperatures:
            Sampling(temperature, settings.top_k, settings.top_p)
        stop_settings.check(cfg)
        executors.check(cfg)
    except (ValueError, LossyError, StopError) as error:
        raise ConfigError(f"eval: {error}") from error


STAGE = Stage(
    name="eval",
    run=run,
    inputs=inputs,
    config=config,
    external=external,
    check=check,
    decodes=always,
    measures=True,
    show=show,
)
