"""What train-disco compares: all policies, replayed and really run on held-out prompts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig

from drafters.package.components import StopModel
from drafters.stop.catalog import CATALOG, TRAINED, build
from drafters.stop.policies.static import Static
from drafters.stop.policy import StopPolicy
from eval.stop.policy_comparison import paired_gain, table
from eval.stop.replay import Outcome, Prices, Trace
from eval.suites import suite as suites
from pipeline.disco.policies import timed_runs
from pipeline.disco.policies.known_laws_bound import LAWS_KNOWN, informed
from pipeline.disco.policies.tune import Tuned
from pipeline.disco.setup import Opened
from pipeline.disco.traces import trace_prompts
from pipeline.disco.traces.trace import traced_suite
from pipeline.errors import PipelineError
from pipeline.runner.stage import Context

HELD_OUT = "held-out traces"
Policies = dict[float, dict[str, StopPolicy]]  # by temperature and report name


def policies(model: StopModel, tuned: Tuned, temperature: float, longest: int) -> dict[str, StopPolicy]:
    """Report name -> policy; the tuned static length is the one to beat."""
    found: dict[str, StopPolicy] = {"static_tuned": Static(tuned.static), "static_5": Static(5)}
    for name, spec in CATALOG.items():
        if spec.compared:
            # The longest round is the one asked for, unless it was tuned. Every request starts anew.
            own = {"max_length": longest} if spec.options["max_length"].default is not None else {}
            found[name] = build(name, own, temperature=temperature, trained=model)
    return found


def replayed(
    context: Context,
    opened: Opened,
    held_out: dict[float, list[Trace]],
    policies: Policies,
    prices: Prices,
    first: dict[float, float],
) -> list[dict[str, Any]]:
    """Every suite and temperature: all policies on the same text and coins.

    `held_out`: the test split's traces. `first`: by temperature, acceptance of a draft in the training split.
    """
    found = []
    chosen = _suites(context.cfg)
    with context.progress("Replaying", (len(chosen) + 1) * len(policies)) as bar:
        for temperature, named in policies.items():
            by_suite = {HELD_OUT: held_out[temperature]}
            for suite in chosen:
                by_suite[suite.name] = traced_suite(opened, context.cfg, suite, temperature)
                bar.advance()
            for name, traces in by_suite.items():
                known = informed(traces, prices, first[temperature], context.cfg.train_disco.max_length)
                compared = _compared(traces, named, prices, known)
                found.append({"suite": name, "temperature": temperature, **compared})
            bar.advance()
    return found


def _compared(traces: list[Trace], named: dict[str, StopPolicy], prices: Prices, known: Outcome) -> dict[str, Any]:
    rows = table(named, traces, prices, "static_tuned", {LAWS_KNOWN: known})
    gains = {policy: paired_gain(traces, named[policy], named["static_tuned"], prices) for policy in TRAINED}
    return {"requests": len(traces), "rows": [asdict(row) for row in rows], "gain_over_static": gains}


def ran(context: Context, opened: Opened, policies: Policies, prices: Prices) -> list[dict[str, Any]]:
    """The suite's first prompts really decoded. Raises PipelineError where a greedy output is not the target's own."""
    cfg, settings = context.cfg, context.cfg.train_disco
    chosen = suites.load(
        trace_prompts.suite_values(cfg), opened.models.target_tokenizer, settings.clock_prompts, cfg.seed
    )
    room = trace_prompts.room(cfg, opened.models.context_lengths, opened.pair.expansion)
    ids = [suites.encode(prompt, opened.models.target_tokenizer, room) for prompt in chosen]
    with context.progress("Timing", len(ids)) as bar:
        records = timed_runs.run_trials(
            opened,
            policies,
            ids,
            context.out,
            max_new_tokens=cfg.traces.max_new_tokens,
            seed=cfg.seed,
            advance=bar.advance,
        )
    if wrong := timed_runs.differing(records):
        names = ", ".join(sorted({str(record.configuration.stop) for record in wrong}))
        raise PipelineError(
            f"{len(wrong)} greedy outputs differ from plain greedy decoding under {names}, expected none: a stop policy must not "
            "change any output"
        )
    return timed_runs.summary(records, prices, policies)


def _suites(cfg: DictConfig) -> list[suites.SuiteConfig]:
    """The composed suite and the further ones."""
    found = [suites.suite_config(trace_prompts.suite_values(cfg))]
    for name, path in cfg.train_disco.suites.items():
        found.append(trace_prompts.named_suite(str(name), path))
    return found
