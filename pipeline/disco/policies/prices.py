"""What a round costs on this device: forwards of both models and decisions of a policy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import median

import torch
from torch import Tensor

from drafters.io.atomic import write_atomic
from drafters.package.components import StopModel
from drafters.stop.catalog import build
from drafters.stop.policy import StopPolicy
from eval.costs.forwards import Costs, drafter_forward, measure_costs
from eval.costs.stop_decisions import decision_seconds
from eval.stop.replay import Prices
from pipeline.disco.setup import Opened
from pipeline.runner.stage import Advance, Workspace

PASSES = 10  # over all forwards to time: each pass is short, so that one clock speed applies to all that it compares
TURNS = 5  # of timing decisions and drafter forwards


def measure_prices(work: Workspace, opened: Opened, model: StopModel, longest: int, runs: int) -> Prices:
    """Measured costs of rounds of up to ``longest`` drafts; a resumed run keeps those it began with."""
    part = work.out / ".part-prices.json"
    if not part.exists():
        ids, lengths = torch.arange(2, 130) % opened.models.vocabulary, range(1, longest + 2)
        each = max(1, runs // PASSES)
        with work.progress("Timing forwards and decisions", PASSES + TURNS) as bar:
            passes = []
            for _ in range(PASSES):
                passes.append(measure_costs({"drafter": opened.pair}, ids, lengths, each))
                bar.advance()
            target, drafter = at_one_pace(passes, "drafter")
            stop = build("cost_aware", {"c": 0.1, "rate": 1.5, "first": 0.7}, trained=model)
            share = _share(opened, stop, ids, runs, bar.advance)
        found = {
            "target": {str(n): seconds for n, seconds in target.items()},
            "drafter": drafter,
            "stop": share * drafter,
        }
        write_atomic(part, json.dumps(found).encode())
    found = json.loads(part.read_text())
    return Prices({int(n): seconds for n, seconds in found["target"].items()}, found["drafter"], found["stop"])


def at_one_pace(passes: Sequence[Costs], drafter: str) -> tuple[dict[int, float], float]:
    """Seconds t(n) and d: of every pass the ratio to its own t(1), their medians, times the median t(1).

    A machine's clock speed varies by more than a second token costs; medians over minutes would count that as its price.
    """
    unit = median(costs.t for costs in passes)
    target = {n: unit * median(costs.target[n].median / costs.t for costs in passes) for n in passes[0].target}
    return target, unit * median(costs.drafters[drafter].median / costs.t for costs in passes)


def _share(opened: Opened, stop: StopPolicy, ids: Tensor, runs: int, advance: Advance) -> float:
    """A decision's time after a drafter forward, over that forward's, timed in turns so that clock speed cancels."""
    columns, shares, ahead = opened.vocab.to_target.shape[0], [], drafter_forward(opened.pair, ids)

    def before() -> None:
        ahead.run()
        ahead.undo()

    for _ in range(TURNS):
        decision = decision_seconds(stop, columns, runs, opened.pair.device, greedy=True, before=before)
        forward = measure_costs({"drafter": opened.pair}, ids, [1], runs).drafters["drafter"].median
        shares.append(decision / forward)
        advance()
    return median(shares)
