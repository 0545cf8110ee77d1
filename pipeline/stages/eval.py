"""eval: every sampler at every temperature against plain decoding and the unpruned drafter, on the same prompts.

Writes ``records.jsonl`` (one line per configuration, prompt and repeat: counts and seconds, no text), ``report.json``,
``report.csv`` and ``report.html``. A few answers stand as text in ``report.json`` and ``report.html`` where the prompts came with this
code or ``eval.texts`` asks for it. A rerun after a kill goes on after the last finished prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from drafters.io.atomic import write_atomic
from drafters.package.integrity import RECOMMENDED
from drafters.package.recommendation.recommended_json import write_recommendation
from drafters.probs import Sampling
from drafters.samplers.catalog import needs_prior
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
from eval.run.records import PACKAGE, SPECULATIVE, TAILED, UNPRUNED
from eval.run.sampler_files import Preset
from eval.run.trials import Harness, Task
from eval.verdict.prediction import work as work_of
from pipeline.config import settings as shared
from pipeline.config.settings import TrackingConfig, read, suite_of
from pipeline.errors import ConfigError, PipelineError
from pipeline.evaluate import cells as measuring
from pipeline.evaluate import setup
from pipeline.evaluate.answers import answers, wanted
from pipeline.evaluate.few_rows import at_best_lengths, few
from pipeline.evaluate.report import report, write_page
from pipeline.evaluate.settings import (
    EvalConfig,
    Evaluation,
    Files,
    check_compared,
    check_stops,
    choose_presets,
    choose_stops,
    parse_executor,
)
from pipeline.evaluate.text_expectations import expected_rows, on_common_text
from pipeline.evaluate.verdict_run import Judged, judge, recommendation, split
from pipeline.runner.discovery import suggest
from pipeline.runner.stage import Context, Stage, Workspace, always, pair_external, say

REPORT, PAGE = "report.json", "report.html"


def run(context: Context) -> None:
    """Log p and q, measure costs, time all contenders by prompt, conclude; write records, report and recommendation."""
    asked, out = _asked(context.cfg), context.out
    settings = asked.settings
    with context.progress("Opening the models", None):
        bench = setup.opened(asked, context.inputs["package"])
    tasks, unseen = split(bench.tasks, settings.confirm_prompts if settings.positions else 0)
    laws = Laws([task.ids for task in tasks], settings.law_rounds, asked.seed, bench.warps, settings.max_new_tokens)

    def rank_law(drafter: Drafter, temperature: float) -> list[float] | None:
        found = measuring.ranks(out, laws, drafter, temperature) if settings.law_rounds else None
        return None if found is None else found.law

    with context.progress("Logging the ranks of drafts", None):
        every = bench.contenders(rank_law)
    costs = measuring.costs(out, lambda: _costs(context, bench, tasks, every))
    common = on_common_text(context, bench, tasks, every, rank_law) if settings.positions else {}
    found, left_out = few(every, common, costs) if settings.rows == "few" else (every, [])
    if settings.lengths == "best":
        found = at_best_lengths(found, common, costs)
    found += bench.peers(found)
    _announce(context.console, settings, len(found), len(tasks), costs, bench.notes)
    optima = measuring.watched(context, laws, found) if settings.law_rounds else {}
    harness = bench.harness(found)
    cells = _cells(context, asked, harness, tasks, laws)
    records = list(measuring.records(context, len(found), tasks, cells, settings.repeats, settings.minutes))
    judged = judge(context, bench, common, costs, records, found, unseen)
    evidence = RowEvidence(
        optima, laws.known, read_certificate(context.cfg.runs_dir), expected_rows(common, found) if common else {}
    )
    served = shared.served_sampling(context.cfg)
    told = replace(bench, notes=[*shared.stand_ins(context.cfg), *bench.notes])
    made = report(told, records, costs, harness, evidence, judged, left_out, context.inputs, served)
    made = replace(made, texts=measuring.texts(out, lambda: answers(context, bench)))  # nothing is timed any more
    write_atomic(out / "records.jsonl", "".join(f"{item.to_json()}\n" for item in records).encode())
    write_atomic(out / "report.csv", to_csv(made))
    write_atomic(out / REPORT, to_json(made))
    _recommend(context, bench, judged, made)
    tracking, runs = read(context.cfg.tracking, TrackingConfig), Path(context.cfg.runs_dir)
    write_page(context, made, evidence.certificate, context.home or out, runs, tracking)
    measuring.sweep(out)


def _asked(cfg: DictConfig) -> Evaluation:
    settings = read(cfg.eval, EvalConfig)
    return Evaluation(
        settings, shared.pair_of(cfg), suite_of(cfg), _presets(cfg, settings), _stops(cfg, settings),
        parse_executor(_executor(cfg)), cfg.device, cfg.dtype, cfg.seed,
    )  # fmt: skip


def _presets(cfg: DictConfig, settings: EvalConfig) -> list[Preset]:
    return choose_presets(
        shared.plain(cfg.samplers), None if cfg.sampler is None else shared.plain(cfg.sampler), settings
    )


def _stops(cfg: DictConfig, settings: EvalConfig) -> Files:
    return choose_stops(shared.plain(cfg.stops), shared.plain(cfg.stop), settings)


def _executor(cfg: DictConfig) -> Mapping[str, Any]:
    """The configuration's `executor`; the speculative one where it is not set."""
    if OmegaConf.is_missing(cfg, "executor") or "executor" not in cfg:
        return {"name": SPECULATIVE}
    return shared.plain(cfg.executor) if isinstance(cfg.executor, DictConfig) else {"name": cfg.executor}


def _costs(work: Workspace, bench: setup.Bench, tasks: list[Task], contenders: list[Contender]) -> Costs:
    """Prices of all forwards that the contenders' rounds are made of, and of t(1) to t(8): how verification grows."""
    trees = [work_of(item.sampler, item.stop.max_length) for item in contenders if item.sampler and item.stop]
    lengths = {*range(1, max(8, bench.longest + 1) + 1), *(own.nodes[-1] + 1 for own in trees)}
    widths = {n for own in trees for n in own.drafts[-1]} - {1}
    pairs = {drafter.name: drafter.pair for drafter in bench.drafters}
    runs = bench.asked.settings.cost_runs
    with work.progress("Timing forwards", runs + WARM_UP) as bar:
        return measure_costs(pairs, tasks[0].ids, sorted(lengths), runs, sorted(widths), bar.advance)


def _recommend(context: Context, bench: setup.Bench, judged: Judged, made: Report) -> None:
    """recommended.json, in the stage's own directory and beside the package, where `drafters.load` finds it."""
    package = context.inputs["package"].resolve()
    if not judged.choices:
        if (earlier := package.with_name(f"{package.name}.{RECOMMENDED}")).exists():
            say(
                context.console,
                "warning: this evaluation gives no verdict (eval.positions=0): what an earlier one recommends stays in "
                f"force, {earlier}; evaluate with eval.positions above 0, or delete that file",
            )
        return
    found = recommendation(bench, judged, made.device, made.dtype, made.threads)
    write_recommendation(context.out / RECOMMENDED, found)
    write_recommendation(package.with_name(f"{package.name}.{RECOMMENDED}"), found)


def _cells(context: Context, asked: Evaluation, harness: Harness, tasks: list[Task], laws: Laws) -> measuring.Make:
    """Who measures: this process, or the processes of a Ray cluster."""
    if shared.hardware_of(context.cfg).backend != "ray":
        return measuring.here(harness, tasks)
    known = {key: found.law for key, found in laws.known.items()}
    package = context.inputs["package"]
    return measuring.on_ray(asked, shared.crew_of(context.cfg), package, known, tasks, harness.contenders)


def _announce(
    console: Console, settings: EvalConfig, configurations: int, prompts: int, costs: Costs, notes: list[str]
) -> None:
    seconds = configurations * prompts * settings.max_new_tokens * settings.repeats * costs.t
    how_long = f"about {_duration(seconds)}"
    if settings.minutes is not None and seconds > 60 * settings.minutes:
        how_long = f"as many as fit into {settings.minutes:g} min"
    say(
        console,
        f"evaluating {configurations} configurations on {prompts} prompts, {settings.repeats} x, up to "
        f"{settings.max_new_tokens} tokens each: {how_long}",
    )
    for line in notes:
        say(console, f"note: {line}")


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
        say(console, f"{label}: {where}", whole=True)
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


def config(cfg: DictConfig) -> dict[str, object]:
    """The settings, the samplers, the stop policy, the prompts and the seed; where folders lie is no part of it."""
    settings, values = read(cfg.eval, EvalConfig), shared.plain(cfg.eval)
    values["more_drafters"] = sorted(values["more_drafters"])
    values["samplers"] = [asdict(preset) for preset in _presets(cfg, settings)]
    return {
        **values,
        "stops": _stops(cfg, settings),
        "executor": _executor(cfg),
        "suite": shared.suite_key(suite_of(cfg)),
        "seed": cfg.seed,
        "pair": cfg.pair.name,
    }


def external(cfg: DictConfig) -> dict[str, str]:
    """Both models, further drafters, and the prompts."""
    more = {f"more_drafters.{name}": where for name, where in cfg.eval.more_drafters.items()}
    return pair_external(cfg) | more | shared.suite_external(suite_of(cfg))


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for settings that cannot work, before anything is loaded."""
    settings = read(cfg.eval, EvalConfig)
    shared.look(cfg, "suite")
    for name in ("prompts", "max_new_tokens", "repeats", "cost_runs"):
        if (value := getattr(settings, name)) is not None and value < 1:
            raise ConfigError(f"eval.{name}={value}: expected a whole number from 1")
    if settings.law_rounds < 0:
        raise ConfigError(f"eval.law_rounds={settings.law_rounds}: expected a whole number from 0 (none logged)")
    if settings.positions < 0 or settings.confirm_prompts < 0 or not settings.confirm_minutes > 0:
        raise ConfigError("eval: expected positions and confirm_prompts from 0 and confirm_minutes above 0")
    if settings.rows not in ("all", "few"):
        raise ConfigError(f"eval.rows={settings.rows}: expected all, or few to time only those that say most")
    if settings.rows == "few" and not settings.positions:
        raise ConfigError("eval.rows=few: which rows say most follows from the laws: set eval.positions above 0")
    check_compared(settings, shared.hardware_of(cfg).backend == "ray")
    if settings.minutes is not None and not settings.minutes > 0:
        raise ConfigError(f"eval.minutes={settings.minutes}: expected a number above 0, or null for no limit")
    if not settings.temperatures or len(set(settings.temperatures)) < len(settings.temperatures):
        raise ConfigError(f"eval.temperatures={settings.temperatures}: expected different numbers from 0, e.g. [0, 1]")
    for name in settings.samplers or ():
        for needed, stage in ((needs_prior(name), "affinity"), (name == "tail", "tail")):
            if needed and not cfg[stage].enabled:
                raise ConfigError(
                    f"eval.samplers: {name} needs stage {stage}: set {stage}.enabled=true, or leave {name} out"
                )
        if name not in cfg.samplers:
            raise ConfigError(f"eval.samplers: {name}: no such sampler; {suggest(name, cfg.samplers)}")
    if taken := {UNPRUNED, PACKAGE, TAILED} & set(settings.more_drafters):
        raise ConfigError(
            f"eval.more_drafters.{taken.pop()}: that name is taken by the pair's own drafter; choose another"
        )
    for name in settings.stops or ():
        if name not in cfg.stops:
            raise ConfigError(f"eval.stops: {name}: no such stop policy; {suggest(name, cfg.stops)}")
    wanted(settings, suite_of(cfg))
    try:
        _presets(cfg, settings)
        _ = settings.draft_sampling  # raises as Sampling does
        for temperature in settings.temperatures:
            Sampling(temperature, settings.top_k, settings.top_p)
        check_stops(_stops(cfg, settings), cfg.train_disco.enabled)
        parse_executor(_executor(cfg))
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
