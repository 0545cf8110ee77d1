"""Candidates under stop policies: rounds as the engine makes them, decisions priced, and named so that they can be built again."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from drafters.engine.decode import speculative
from drafters.engine.limits import Limits
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import build
from drafters.stop import catalog
from drafters.vocab.alignment import identity
from eval.costs.forwards import Costs, Timing
from eval.expectation.common_text import continuations
from eval.lossless.toys.table_models import Table, TablePair
from eval.run.configurations import Drafter
from eval.run.sampler_files import Preset
from eval.stop.replay import Outcome
from eval.verdict.candidates import Candidate, contender, shortlist
from eval.verdict.policy_candidates import decided, rounds_of, stopped
from eval.verdict.prediction import Overheads, Prediction, forward_seconds, work
from eval.verdict.verdict import name_of, use
from pipeline.disco.traces.trace import forced, trace

REQUESTS, FALSE_ALARM = 400, 5.0
LIMITS = Limits(24, Sampling(1.0))
COSTS = Costs({n: Timing(1.0, 1, 1, 1) for n in range(1, 30)}, {"package": Timing(0.1, 0, 0, 1)}, 1)


def pair() -> TablePair:
    target, other = Table.random(12, 0), Table.random(12, 1, scale=1.0)
    return TablePair(target, Table(target.logits + other.logits), identity(12))


def base(own: TablePair) -> Candidate:
    sampler, drafter = build("standard", own.vocab), Drafter("package", own, own.vocab)
    return Candidate(drafter, Preset("standard", "standard"), sampler, 1.0, 3, 0.7, 2.0, Prediction(1.2, 1.1, 1.3))


def prompts() -> list[torch.Tensor]:
    return [torch.tensor([number % 12, number // 12 % 12]) for number in range(REQUESTS)]


@pytest.mark.parametrize(
    ("name", "options"),
    [("confidence", {"threshold": 0.4, "max_length": 6}), ("heuristic_transient", {"max_length": 8})],
)
def test_expected_rounds_are_those_of_the_engine(name, options):
    own = pair()
    item, numbers = base(own), list(range(REQUESTS))
    traces = [
        trace(forced(own, text.prompt, text.new), text.new, item.sampler, LIMITS.sampling, number, 7, len(text.prompt))
        for text, number in zip(continuations(own, prompts(), numbers, LIMITS, 7), numbers, strict=True)
    ]
    found = stopped(item, name, catalog.build(name, options), traces, 0.0, COSTS, Overheads())
    ran = speculative(
        own, item.sampler, catalog.build(name, options), prompts(), KeyedCoins(8, torch.arange(REQUESTS)), LIMITS
    )
    per_request = ran.target_forwards.double().numpy()
    error = per_request.std() / math.sqrt(REQUESTS)
    expected = 24 / found.tokens_per_forward
    assert (
        abs(per_request.mean() - expected) < FALSE_ALARM * math.sqrt(2) * error
    )  # both are means over texts of one law
    assert error < 0.02 * expected  # it sees a difference of 14 %
    wrong = stopped(
        item, name, catalog.build("confidence", {"threshold": 0.99, "max_length": 1}), traces, 0.0, COSTS, Overheads()
    )
    assert abs(per_request.mean() - 24 / wrong.tokens_per_forward) > 2 * FALSE_ALARM * math.sqrt(2) * error


def test_counts_of_a_replay_by_hand():
    rounds = np.array([[0, 3, 1, 9], [0, 2, 2, 5], [1, 0, 0, 4], [1, 1, 0, 3]])
    found = rounds_of(Outcome(rounds, 7, 3, 1), [5, 2])
    assert found.target_forwards.tolist() == [2, 2]
    assert found.by_drafted.tolist() == [[0, 0, 1, 1], [1, 1, 0, 0]]
    assert (found.accepted.tolist(), found.verified.tolist(), found.drafted.tolist()) == ([3, 0], [4, 1], [5, 1])


def test_decisions_are_priced():
    own = decided(work(build("standard", identity(2)), 3), 2, 0.5)
    assert own.decisions == [0, 0, 0.5, 1.0]  # told of the second draft and the third
    assert forward_seconds(COSTS, "package", own, 3) == pytest.approx(3 * 0.1 + 1 + 1.0)
    assert decided(own, None, 0.5).decisions == [0, 0, 0, 0]


def test_a_policy_is_named_as_a_recommendation_names_it():
    policy = catalog.build("confidence")
    item = dataclasses.replace(base(pair()), stop="confidence", policy=policy, length=policy.max_length)
    chosen = use(item)
    assert (chosen.stop, chosen.length) == ("confidence", None)
    assert catalog.build(chosen.stop) == policy
    assert contender(item).stop is policy
    assert item.configuration.stop == "confidence"
    assert name_of(item).endswith("as many drafts as the policy confidence says, at most 20 a round")
    assert len(shortlist([base(pair()), item], 3)) == 2
