"""The numbers of the policies, found by replay on the validation split with measured costs. Nothing here sees the test split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from drafters.stop.classifier import Classifier
from drafters.stop.policies.cost_aware import CostAware
from drafters.stop.policies.disco import Disco
from drafters.stop.policies.specdecpp import SpecDecPP
from eval.stop.policy_comparison import best_static
from eval.stop.replay import Prices, Trace, replay

THRESHOLDS = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
LENGTHS = [5, 10, 20]  # of which those up to the longest allowed
FEWEST = [1, 2, 3, 4]  # drafts of a round before the cost-aware rule decides
PASSES = 8
SETTLED = 1e-3


@dataclass(frozen=True)
class Tuned:
    """What was found at one temperature."""

    static: int
    parameters: dict[str, float]  # as `drafters.stop.catalog` reads them, the temperature left out
    rates: list[float]  # of the cost-aware rule, pass by pass


def tune(traces: Sequence[Trace], classifier: Classifier, prices: Prices, first: float, longest: int) -> Tuned:
    """Thresholds and lengths of the highest speed by cost, and the cost-aware rule's fixed point.

    Args:
        first: acceptance of a draft, from the training split. longest: most drafts of any round.
    """
    lengths = [length for length in LENGTHS if length < longest] + [longest]
    grid = [(threshold, length) for threshold in THRESHOLDS for length in lengths]
    disco = max(grid, key=lambda point: replay(traces, Disco(classifier, *point)).speed(prices))
    specdecpp = max(THRESHOLDS, key=lambda h: replay(traces, SpecDecPP(classifier, h, longest)).speed(prices))
    c = prices.marginal()
    rates, least, best = [1.0], 1, 0.0
    for length in [length for length in FEWEST if length <= longest]:
        settled = fixed_point(traces, classifier, c, first, longest, length)
        policy = CostAware(classifier, c, settled[-1], first, longest, length)
        speed = replay(traces, policy).speed(prices)
        if speed > best:
            rates, least, best = settled, length, speed
    parameters = {
        "disco_threshold": disco[0],
        "disco_max_length": float(disco[1]),
        "specdecpp_threshold": specdecpp,
        "c": c,
        "rate": rates[-1],
        "first": first,
        "min_length": float(least),
    }
    return Tuned(best_static(traces, prices)[0], parameters, rates)


def fixed_point(
    traces: Sequence[Trace],
    classifier: Callable[[Tensor], Tensor],
    c: float,
    first: float,
    longest: int,
    least: int = 1,
) -> list[float]:
    """Rates of the cost-aware rule's rounds that draft (tokens per target forward's time), each reached with the one before.

    From 1 until they settle, or until one is below 1: drafting does not pay.
    """
    rates = [1.0]
    for _ in range(PASSES):
        outcome = replay(traces, CostAware(classifier, c, rates[-1], first, longest, least))
        drafting = outcome.rounds[outcome.rounds[:, 1] > 0]
        if not len(drafting):
            break  # a draft costs a target forward, or there is no room for any
        rates.append(float((drafting[:, 2] + 1).sum() / (1 + c * drafting[:, 1]).sum()))
        if rates[-1] < 1 or abs(rates[-1] - rates[-2]) < SETTLED:
            break
    return rates
