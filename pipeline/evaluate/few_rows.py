"""Which rows are timed, and with how many drafts: the few that say most, each at its own best length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from drafters.engine.decode import Speculative
from drafters.package.recommendation.uses import FORMS
from drafters.samplers.draft import Tree
from drafters.stop.policies.static import Static
from eval.costs.forwards import Costs
from eval.expectation.expected_rounds import Rounds, expected_rounds
from eval.run.configurations import Contender
from eval.run.records import SPECULATIVE, Configuration
from eval.verdict.prediction import Overheads, predict, work
from pipeline.evaluate.text_expectations import LONGEST, Common


def few(
    contenders: Sequence[Contender], common: Mapping[float, Common], costs: Costs
) -> tuple[list[Contender], list[str]]:
    """The contenders worth timing where time is short, and what was left out, in words.

    Left out: drafters that no package holds, trees but the one predicted to be fastest, and samplers whose expected rounds are
    exactly those of an earlier one with the same drafter (at temperature 0 all that draft alike).
    """
    own = [item for item in contenders if item.drafter is None or item.drafter.name in FORMS]
    kept: list[Contender] = []
    alike: dict[tuple[float, str, str], list[str]] = {}
    for item in best_trees(own, common, costs):
        twin = next((other for other in kept if _same(item, other, common)), None)
        if twin is None:
            kept.append(item)
            continue
        key = item.configuration.temperature, str(twin.configuration.preset), str(twin.configuration.drafter)
        alike.setdefault(key, []).append(str(item.configuration.preset))
    said = [
        f"T = {heat:g}: {', '.join(names)} with the drafter {drafter} would take exactly the rounds of {sampler}"
        for (heat, sampler, drafter), names in alike.items()
    ]
    return kept, said


def best_trees(contenders: Sequence[Contender], common: Mapping[float, Common], costs: Costs) -> list[Contender]:
    """The contenders without the trees that another one is predicted to beat, per drafter and temperature.

    Trees of which nothing follows from distributions stay.
    """
    speed: dict[Configuration, float] = {}
    for item in contenders:
        key = item.configuration
        entry = common[key.temperature].entry(item) if common else None
        if entry is not None and item.sampler is not None and isinstance(item.sampler.shape, Tree):
            levels = len(item.sampler.shape.levels)
            own = work(item.sampler, levels)
            rounds = expected_rounds(entry.expectation.followed, levels)
            speed[key] = predict(rounds, str(key.drafter), str(key.preset), own, costs, Overheads()).ratio
    best: dict[tuple[str | None, float], Configuration] = {}
    for key, value in speed.items():  # of equal ones the last: the catalog's later rules are the stronger ones
        known = best.get((key.drafter, key.temperature))
        if known is None or value >= speed[known]:
            best[key.drafter, key.temperature] = key
    kept = {(key.drafter, key.preset, key.temperature) for key in best.values()}  # under all policies, on all executors

    def stays(key: Configuration) -> bool:
        return key not in speed or (key.drafter, key.preset, key.temperature) in kept

    return [item for item in contenders if stays(item.configuration)]


def at_best_lengths(contenders: Sequence[Contender], common: Mapping[float, Common], costs: Costs) -> list[Contender]:
    """The contenders, chains of a constant length with the one of 1 to LONGEST drafts that is predicted to be fastest.

    So that forms of a drafter which differ in the price of a draft are compared each at its best.
    """
    return [_at_best(item, common[item.configuration.temperature], costs) for item in contenders]


def _at_best(item: Contender, common: Common, costs: Costs) -> Contender:
    key, sampler, drafter, entry = item.configuration, item.sampler, item.drafter, common.entry(item)
    if sampler is None or drafter is None or entry is None or item.stop is None or not item.stop.constant:
        return item
    if isinstance(sampler.shape, Tree) or key.executor != SPECULATIVE:
        return item

    def speed(length: int) -> float:
        rounds = expected_rounds(entry.expectation.followed, length)
        return predict(rounds, drafter.name, str(key.preset), work(sampler, length), costs, Overheads()).ratio

    stop = Static(max(range(1, min(LONGEST, entry.expectation.longest) + 1), key=speed))
    run = partial(Speculative().decode, drafter.pair, sampler, stop)
    return replace(item, configuration=replace(key, stop=f"static {stop.length}"), decode=run, stop=stop)


def _same(item: Contender, other: Contender, common: Mapping[float, Common]) -> bool:
    key, theirs = item.configuration, other.configuration
    if (key.temperature, key.drafter, key.executor) != (theirs.temperature, theirs.drafter, theirs.executor):
        return False
    found = common.get(key.temperature)
    if found is None or item.sampler is None or other.sampler is None:
        return False
    return type(item.sampler.shape) is type(other.sampler.shape) and _equal(found.rounds(item), found.rounds(other))


def _equal(first: Rounds | None, second: Rounds | None) -> bool:
    if first is None or second is None:
        return False
    return np.allclose(first.target_forwards, second.target_forwards, rtol=1e-9, atol=0.0)
