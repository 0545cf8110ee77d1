"""What train-disco compares and prints: all policies, replayed and really run on held-out prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypedDict

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import pad

from drafters.package.components import StopModel
from drafters.probs import Sampling
from drafters.stop.catalog import CATALOG, TRAINED, build
from drafters.stop.policies.cost_aware import CostAware
from drafters.stop.policies.static import Static
from drafters.stop.policy import StopPolicy
from eval.stop.policy_comparison import ORACLE, paired_gain, table
from eval.stop.replay import Outcome, Prices, Trace, replay
from eval.suites import suite as suites
from eval.suites.suite import SuiteConfig
from pipeline.disco.policies import timed_runs
from pipeline.disco.policies.tune import FEWEST, Tuned, fixed_point
from pipeline.disco.setup import Opened
from pipeline.disco.traces import trace_prompts
from pipeline.disco.traces.trace import traced_suite
from pipeline.errors import PipelineError
from pipeline.runner.stage import Workspace, say

HELD_OUT = "held-out traces"
# What the cost-aware rule would reach if it knew p and q: only coins and the rule itself are left. It bounds no other rule. The oracle
# knows the coins, which no policy can.
LAWS_KNOWN = "laws known"
Policies = Mapping[float, Mapping[str, StopPolicy]]  # by temperature and report name


def policies(model: StopModel, tuned: Tuned, temperature: float, longest: int) -> dict[str, StopPolicy]:
    """Report name -> policy; the tuned static length is the one to beat."""
    found: dict[str, StopPolicy] = {"static_tuned": Static(tuned.static), "static_5": Static(5)}
    for name, spec in CATALOG.items():
        if spec.compared:
            # The longest round is the one asked for, unless it was tuned. Every request starts anew.
            own = {"max_length": longest} if spec.options["max_length"].default is not None else {}
            found[name] = build(name, own, temperature=temperature, trained=model)
    return found


@dataclass(frozen=True)
class Comparison:
    """What the policies are compared on."""

    suites: Sequence[SuiteConfig]  # the first is the one that is also run by the clock
    suite_prompts: int  # replayed, of each suite
    clock_prompts: int  # run
    max_new_tokens: int
    longest: int  # drafts of any round
    top_k: int
    top_p: float
    seed: int

    def sampling(self, temperature: float) -> Sampling:
        """What the target is sampled with."""
        return Sampling(temperature, self.top_k, self.top_p)


class Replayed(TypedDict):
    """All policies on one text at one temperature."""

    suite: str
    temperature: float
    requests: int
    rows: list[dict[str, object]]
    gain_over_static: dict[str, tuple[float, float, float]]


def replayed(
    work: Workspace,
    opened: Opened,
    how: Comparison,
    held_out: Mapping[float, list[Trace]],
    policies: Policies,
    prices: Prices,
    first: Mapping[float, float],
) -> list[Replayed]:
    """Every suite and temperature: all policies on the same text and coins.

    `held_out`: the test split's traces. `first`: by temperature, acceptance of a draft in the training split.
    """
    found = []
    with work.progress("Replaying", (len(how.suites) + 1) * len(policies)) as bar:
        for temperature, named in policies.items():
            by_suite = {HELD_OUT: held_out[temperature]}
            for suite in how.suites:
                by_suite[suite.name] = traced_suite(
                    opened, suite, how.suite_prompts, how.sampling(temperature), how.seed, how.max_new_tokens
                )
                bar.advance()
            for name, traces in by_suite.items():
                known = informed(traces, prices, first[temperature], how.longest)
                found.append(_compared(name, temperature, traces, named, prices, known))
            bar.advance()
    return found


def _compared(
    suite: str,
    temperature: float,
    traces: list[Trace],
    named: Mapping[str, StopPolicy],
    prices: Prices,
    known: Outcome,
) -> Replayed:
    rows = table(named, traces, prices, "static_tuned", {LAWS_KNOWN: known})
    gains = {policy: paired_gain(traces, named[policy], named["static_tuned"], prices) for policy in TRAINED}
    return {
        "suite": suite,
        "temperature": temperature,
        "requests": len(traces),
        "rows": [asdict(row) for row in rows],
        "gain_over_static": gains,
    }


def ran(
    work: Workspace, opened: Opened, how: Comparison, policies: Policies, prices: Prices
) -> list[Mapping[str, object]]:
    """The suite's first prompts really decoded. Raises PipelineError where a greedy output is not the target's own."""
    tokenizer = opened.models.target_tokenizer
    chosen = suites.load(how.suites[0], tokenizer, how.clock_prompts, how.seed)
    room = trace_prompts.room(how.max_new_tokens, opened.models.context_lengths, opened.pair.expansion)
    ids = [suites.encode(prompt, tokenizer, room) for prompt in chosen]
    with work.progress("Timing", len(ids)) as bar:
        records = timed_runs.run_trials(
            opened, policies, ids, work.out, max_new_tokens=how.max_new_tokens, seed=how.seed, advance=bar.advance
        )
    if wrong := timed_runs.differing(records):
        names = ", ".join(sorted({str(record.configuration.stop) for record in wrong}))
        raise PipelineError(
            f"{len(wrong)} greedy outputs differ from plain greedy decoding under {names}, expected none: a stop policy must not "
            "change any output"
        )
    return timed_runs.summary(records, prices, policies)


class Told:
    """A classifier that returns the true chances, with which its features begin."""

    def __call__(self, features: Tensor) -> Tensor:
        """Features (B, F) -> (B, 2), see drafters.stop.classifier.Classifier."""
        return features[:, :2]


def informed(traces: Sequence[Trace], prices: Prices, first: float, longest: int) -> Outcome:
    """The outcome of the cost-aware rule that is given the true chances in place of the classifier's two numbers.

    They are the chance that the drafted token is accepted, and the chance that the next one would be, before it is drawn.
    Rate and fewest drafts are tuned on these traces. Its decisions are paid for, as those of any other policy.

    Args:
        first: acceptance of a draft, which a round's first decision goes by. longest: most drafts of any round.
    """
    told, c = [_told(trace) for trace in traces], prices.marginal()
    outcomes = []
    for least in [length for length in FEWEST if length <= longest]:
        rate = fixed_point(told, Told(), c, first, longest, least)[-1]
        outcomes.append(replay(told, CostAware(Told(), c, rate, first, longest, least)))
    return max(outcomes, key=lambda outcome: outcome.speed(prices))


def _told(trace: Trace) -> Trace:
    following = pad(trace.overlap[1:], (0, 1))  # nothing is drafted behind the last token
    features = torch.zeros_like(trace.features)
    features[:, 0], features[:, 1] = trace.chance, following
    return replace(trace, features=features)


def show_report(report: Mapping[str, Any], console: Console) -> None:
    """Print one table per suite and temperature, what was really run beside it, and the classifier's calibration."""
    ran = {(row["temperature"], row["policy"]): row for row in report["ran"]}
    timed = report["timed_suite"]
    for part in report["replayed"]:
        temperature = part["temperature"]
        clock = {name: row for (t, name), row in ran.items() if t == temperature and part["suite"] == timed}
        console.print(_policy_table(part, clock, report["tuned"][f"{temperature:g}"]["static"]))
        for name, (gain, low, high) in part["gain_over_static"].items():
            say(console, f"{name}: {gain:+.1%} over the best static length by cost (95 % {low:+.1%} to {high:+.1%})")
    prices = report["prices"]
    say(
        console,
        f"\na target forward {1e3 * prices['target']['1']:.2f} ms, a drafter forward {1e3 * prices['drafter']:.2f} ms, a decision "
        f"{1e3 * prices['stop']:.3f} ms ({prices['stop'] / prices['drafter']:.1%} of a drafter forward); one more draft costs "
        f"c = {prices['c']:.3f} target forwards, its verification included",
    )
    errors = ", ".join(f"T = {row['temperature']:g} {row['output']} {row['ece']:.3f}" for row in report["calibration"])
    say(console, f"expected calibration error on the test split: {errors}")
    say(
        console,
        "speed: tokens per plain target forward's time, by measured costs, decisions included; gap: of the way from the best "
        "static length to the oracle, which knows what will be accepted; laws known: cost_aware told both laws' true chances "
        "(no bound on other rules); tok/fw: tokens per target forward; drafts: per round; wasted: "
        "share of them that did not become output; early: rounds that ended before they had to; tok/s: really run; vs AR: "
        "their median speed-up over plain decoding, prompt by prompt",
    )


def _policy_table(part: Mapping[str, Any], clock: Mapping[str | None, Mapping[str, Any]], static: int) -> Table:
    title = f"{part['suite']}, T = {part['temperature']:g}, {part['requests']} requests"
    found = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False
    )
    names = ("policy", "speed", "gap", "tok/fw", "drafts", "wasted", "early", "tok/s", "vs AR")
    for number, name in enumerate(names):
        found.add_column(name, justify="right" if number else "left", no_wrap=True, min_width=None if number else 19)
    for row in part["rows"]:
        name = f"static {static}, best" if row["policy"] == "static_tuned" else row["policy"]
        seen = clock.get(row["policy"])
        found.add_row(
            name,
            f"{row['speed']:.3f}",
            "-" if row["gap_closed"] is None or row["policy"] == ORACLE else f"{row['gap_closed']:+.0%}",
            f"{row['tokens_per_forward']:.2f}",
            f"{row['drafted_per_round']:.2f}",
            "-" if row["wasted"] is None else f"{row['wasted']:.0%}",
            f"{row['early']:.0%}",
            "-" if seen is None else f"{seen['tokens_per_second']:.1f}",
            "-" if seen is None else f"{seen['clock_speed']:.2f}x",
        )
    return found
