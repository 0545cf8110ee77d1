"""Speed-ups by the clock."""

import pytest

from eval.run.records import PACKAGE, SPECULATIVE, Configuration, Record
from pipeline.disco.policies.timed_runs import clock_speed

KEY = Configuration(PACKAGE, "tli", SPECULATIVE, "disco", 0.0, 16)


def ran(*seconds):
    """Prompts of 100 tokens each."""
    return [Record(KEY, str(number), 0, 8, 100, 0, 0, 0, 100, (), taken, None) for number, taken in enumerate(seconds)]


def test_a_disturbed_prompt_does_not_count():
    """Twice as fast on every prompt; something else ran during one of ours. By sums: 13 / 15 = 0.87."""
    assert clock_speed(ran(2.0, 3.0, 10.0), ran(4.0, 6.0, 3.0)) == pytest.approx(2.0)


def test_prompts_are_compared_with_themselves():
    """By medians of all prompts: 5 / 4."""
    assert clock_speed(ran(1.0, 4.0, 9.0), ran(3.0, 5.0, 27.0)) == pytest.approx(3.0)


def test_it_refuses_other_prompts():
    with pytest.raises(ValueError, match="zip"):
        clock_speed(ran(1.0), ran(1.0, 2.0))
