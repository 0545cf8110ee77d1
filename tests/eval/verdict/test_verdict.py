"""Gain, no gain, cannot tell: the choice and its reason in words."""

import numpy as np
import pytest

from drafters.probs import Sampling
from drafters.samplers.catalog import build
from drafters.vocab.alignment import identity
from eval.costs.forwards import Costs, Timing
from eval.run.configurations import Drafter
from eval.run.metrics import Samples
from eval.run.sampler_files import Preset
from eval.verdict.candidates import Candidate
from eval.verdict.prediction import Prediction
from eval.verdict.verdict import Confirmed, confirm, name_of, surprises, verdict

COSTS = Costs({1: Timing(1.0, 1, 1, 1), 2: Timing(1.2, 1, 1, 1)}, {"package": Timing(0.25, 0, 0, 1)}, 1)
LAW = Sampling(1.0, 0, 0.9)


def candidate(name="standard", length=3, predicted=1.5, **options) -> Candidate:
    sampler = build(name, identity(4), options)
    return Candidate(
        Drafter("package", None, identity(4)),
        Preset(name, name, options),
        sampler,
        1.0,
        length,
        0.75,
        2.5,
        Prediction(predicted, 1.4, 1.6),
    )


def confirmed(ratio, low, high, **more) -> Confirmed:
    return Confirmed(candidate(**more), ratio, low, high, 24)


def test_a_gain_names_the_choice_its_interval_and_the_next_best():
    choice = verdict(
        [confirmed(1.6, 1.4, 1.8), confirmed(1.2, 0.9, 1.5, name="race", length=1)], [candidate()], LAW, COSTS
    )
    assert choice.reason == (
        "the pruned drafter, sampler standard, 3 drafts a round: 1.60x plain decoding by the clock (95 %: 1.40 to 1.80, predicted "
        "1.50x); next the pruned drafter, sampler race, 1 draft a round, 1.20x, which the clock cannot tell from plain decoding"
    )
    assert (choice.use.sampler, choice.use.length, choice.speedup.low, choice.prompts) == ("standard", 3, 1.4, 24)
    assert (choice.temperature, choice.top_p, choice.by) == (1.0, 0.9, "clock")
    assert [item.use.sampler for item in choice.next] == ["race"]


def test_the_fastest_that_the_clock_can_tell_from_plain_decoding_is_chosen():
    unsure = confirmed(1.7, 0.8, 2.9, name="race")
    choice = verdict([unsure, confirmed(1.3, 1.1, 1.5)], [candidate()], LAW, COSTS)
    assert choice.use.sampler == "standard"
    assert [item.use.sampler for item in choice.next] == ["race"]


@pytest.mark.parametrize(("found", "said"), [
    (confirmed(0.8, 0.7, 0.9), "plain decoding: the best of the others, the pruned drafter, sampler standard, 3 drafts a round, makes "
     "0.80x of it (0.70 to 0.90)"),
    (confirmed(1.1, 0.9, 1.3), "plain decoding: the clock cannot tell the best of the others from it: the pruned drafter, sampler "
     "standard, 3 drafts a round, 1.10x of it (0.90 to 1.30, which includes 1)"),
])  # fmt: skip
def test_no_gain_is_plain_decoding_and_why(found, said):
    choice = verdict([found], [candidate()], LAW, COSTS)
    assert choice.use.plain
    assert choice.speedup.ratio == 1
    assert choice.reason == said + (
        ": a draft costs c = 0.25 of a target forward and is accepted with probability 0.75, and verifying one token more makes a "
        "forward 1.20 times as long"
    )
    assert [item.speedup.ratio for item in choice.next] == [found.ratio]


def test_nothing_confirmed_is_plain_decoding():
    choice = verdict([], [candidate()], LAW, COSTS)
    assert choice.use.plain
    assert choice.reason.startswith(
        "plain decoding: nothing was run by the clock; the pruned drafter, sampler standard, 3 drafts a round is predicted 1.50x"
    )
    with pytest.raises(ValueError, match="expected at least one candidate"):
        verdict([], [], LAW, COSTS)


def test_trees_are_told_in_levels():
    assert name_of(candidate("rrs", 2, branching=[2, 2])).endswith("sampler rrs, 2 levels a round")
    assert name_of(candidate("race_tree", 1)).endswith("1 level a round")
    assert name_of(candidate("race", 1)).endswith("1 draft a round")


def samples(seconds) -> Samples:
    seconds = np.array(seconds, dtype=float)
    return Samples({"tokens": np.full(len(seconds), 10.0)}, seconds, 1)


def test_confirming_is_the_ratio_of_the_clock_on_the_same_prompts():
    fast, slow = candidate(), candidate("race", 2)
    measured = {fast.configuration: samples([1, 2, 1, 2]), slow.configuration: samples([2, 4, 2, 4])}
    first, second = confirm([slow, fast], measured, samples([2, 4, 2, 4]))
    assert (first.candidate, first.ratio, first.low, first.high, first.gains) == (fast, 2.0, 2.0, 2.0, True)
    assert (second.candidate, second.ratio, second.gains) == (slow, 1.0, False)
    assert confirm([fast], {fast.configuration: samples([1])}, samples([2])) == []  # one prompt has no interval


def test_a_clock_far_from_its_prediction_is_told():
    """Planted: prices of half and of twice the true ones."""
    assert surprises([confirmed(1.5, 1.4, 1.6), confirmed(1.05, 1, 1.1), confirmed(2.2, 2, 2.4)]) == []
    for planted in (0.75, 3.0):
        (said,) = surprises([confirmed(planted, planted, planted)])
        assert f"predicted 1.50x, measured {planted:.2f}x: more than a factor 1.5 apart" in said
