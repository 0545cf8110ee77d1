"""Records survive a round trip through their file and hold no text."""

import pytest
import torch

from drafters.engine.decode import Decoded
from eval.run.records import PACKAGE, SPECULATIVE, Configuration, histogram, parse, record

CONFIGURATION = Configuration(PACKAGE, "tli", SPECULATIVE, "static", 0.5, 40)


def decoded() -> Decoded:
    rounds = [(5, 3, 2), (5, 5, 5), (5, 3, 2)]
    return Decoded(
        tokens=[torch.tensor([901, 902, 903])],
        accepted=torch.tensor([9]),
        verified=torch.tensor([11]),
        drafted=torch.tensor([15]),
        target_forwards=torch.tensor([3]),
        rounds=[rounds],
    )


def test_round_trip():
    made = record(CONFIGURATION, decoded(), prompt="p", prompt_tokens=4, repeat=1, seconds=0.25, greedy="tie")
    assert (made.tokens, made.drafted, made.verified, made.accepted, made.target_forwards) == (3, 15, 11, 9, 3)
    assert made.rounds == ((5, 3, 2, 2), (5, 5, 5, 1))
    line = made.to_json()
    assert parse(line) == made
    assert "\n" not in line
    assert not any(token in line for token in ("901", "902", "903"))


def test_histogram_counts_rounds():
    assert histogram([]) == ()
    assert histogram([(0, 0, 0), (2, 1, 0), (0, 0, 0)]) == ((0, 0, 0, 2), (2, 1, 0, 1))


def test_a_line_that_is_no_record_is_refused():
    with pytest.raises((KeyError, TypeError)):
        parse('{"sampler": "tli"}')


def test_not_a_number_is_never_written():
    made = record(CONFIGURATION, decoded(), prompt="p", prompt_tokens=4, repeat=0, seconds=float("nan"), greedy=None)
    with pytest.raises(ValueError, match="JSON"):
        made.to_json()
