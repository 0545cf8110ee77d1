"""The stop policies that an evaluation may recommend: those of its settings, and what the package's training made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from drafters.engine.transformers_pair import Pair
from drafters.samplers.draft import Chain
from drafters.samplers.verify.rejection import Rejection
from drafters.stop.catalog import TRAINED, build
from drafters.stop.policy import StopError, StopPolicy
from eval.costs.forwards import Costs, drafter_forward
from eval.costs.stop_decisions import decision_seconds
from eval.expectation.common_text import BATCH, continuations
from eval.run.records import PACKAGE
from eval.run.trials import Task
from eval.stop.replay import Trace
from eval.verdict.candidates import Candidate
from eval.verdict.policy_candidates import stopped
from eval.verdict.prediction import Overheads
from pipeline.disco.traces.trace import forced, trace
from pipeline.evaluate.setup import Bench


def by_policies(
    bench: Bench,
    tasks: Sequence[Task],
    heat: float,
    ranked: Sequence[Candidate],
    costs: Costs,
    extra: Overheads,
) -> list[Candidate]:
    """The packaged drafter's best chain of plain rejection under every policy; none where there is no policy or no such chain.

    Replayed on the first prompts, as many as are decoded together.
    """
    policies, base = _policies(bench, heat), next(filter(_plain, ranked), None)
    if not policies or base is None or bench.warps.draft is not None:
        return []
    pair, runs = base.drafter.pair, bench.asked.settings.cost_runs
    traces = _traces(bench, base, tasks[:BATCH], heat)
    before = _drafting(pair, tasks[0])
    found = []
    for name, policy in policies.items():
        columns, device = base.drafter.kept, pair.device
        seconds = decision_seconds(policy, columns, runs, device, heat == 0, before) if policy.needs_features else 0.0
        found.append(stopped(base, name, policy, traces, seconds, costs, extra))
    return found


def _plain(item: Candidate) -> bool:
    rejects = isinstance(item.sampler.verifier, Rejection) and isinstance(item.sampler.shape, Chain)
    return item.drafter.name == PACKAGE and rejects


def _policies(bench: Bench, heat: float) -> dict[str, StopPolicy]:
    """By their names in the catalog and with its defaults: that is what a recommendation can say."""
    trained = bench.package.stop
    asked = [options["name"] for options in bench.asked.stops.values()] if bench.asked.settings.stops else []
    found = {}
    for name in dict.fromkeys([*asked, *(TRAINED if trained is not None else ())]):
        try:
            policy = build(name, temperature=heat, trained=trained)
        except StopError:  # not tuned for this temperature
            continue
        if not policy.constant:
            found[name] = policy
    return found


def _traces(bench: Bench, base: Candidate, tasks: Sequence[Task], heat: float) -> list[Trace]:
    pair, seed = base.drafter.pair, bench.asked.seed
    limits = bench.warps.limits(heat, bench.asked.settings.max_new_tokens)
    ids, numbers = [task.ids for task in tasks], [task.number for task in tasks]
    return [
        trace(
            forced(pair, text.prompt, text.new), text.new, base.sampler, limits.sampling, number, seed, len(text.prompt)
        )
        for text, number in zip(continuations(pair, ids, numbers, limits, seed), numbers, strict=True)
    ]


def _drafting(pair: Pair, task: Task) -> Callable[[], None]:
    """A drafter forward and its undoing: what comes before a decision."""
    forward = drafter_forward(pair, task.ids)

    def run() -> None:
        forward.run()
        forward.undo()

    return run
