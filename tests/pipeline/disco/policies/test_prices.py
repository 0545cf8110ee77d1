"""Prices from passes of a machine that changes its pace."""

import pytest

from eval.costs.forwards import Costs, Timing
from pipeline.disco.policies.prices import at_one_pace


def one_pass(paces):
    """Forwards of 1, 2 and 3 tokens and of the drafter, each at its own pace of the machine: truly 10, 11, 12 and 2 seconds."""
    times = [pace * seconds for pace, seconds in zip(paces, (10.0, 11.0, 12.0, 2.0), strict=True)]
    timings = [Timing(seconds, seconds, seconds, 3) for seconds in times]
    return Costs(dict(zip((1, 2, 3), timings[:3], strict=True)), {"drafter": timings[3]}, 8)


def test_the_machines_pace_is_no_part_of_a_price():
    target, drafter = at_one_pace([one_pass([pace] * 4) for pace in (1.0, 1.7, 1.3)], "drafter")
    assert target == pytest.approx({1: 13.0, 2: 14.3, 3: 15.6})
    assert drafter == pytest.approx(2.6)


def test_a_pass_that_was_disturbed_does_not_count():
    """The second token's forward was slow in one pass of three; a ratio of sums over all passes would be 13.0 / 10."""
    passes = [one_pass([1.0] * 4), one_pass([1.0, 1.545, 1.0, 1.0]), one_pass([1.0] * 4)]
    target, _ = at_one_pace(passes, "drafter")
    assert target[2] == pytest.approx(11.0)
