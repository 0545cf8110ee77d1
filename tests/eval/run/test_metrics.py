"""Metrics against numbers worked out by hand, and what becomes of nothing to divide by."""

import pytest

from eval.run.metrics import collect, decimals
from eval.run.records import AUTOREGRESSIVE, PACKAGE, SPECULATIVE, UNPRUNED, Configuration, Record, histogram

PLAIN = Configuration(None, None, AUTOREGRESSIVE, None, 1.0, None)
FULL = Configuration(UNPRUNED, "standard", SPECULATIVE, "static", 1.0, 100)
PRUNED = Configuration(PACKAGE, "tli", SPECULATIVE, "static", 1.0, 25)


def made(configuration, prompt, seconds, rounds=(), tokens=None, repeat=0, greedy=None) -> Record:
    """A record of rounds (drafted, verified, accepted); each emits what it accepts and one token more."""
    drafted, verified, accepted = (sum(column) for column in zip(*rounds, strict=True)) if rounds else (0, 0, 0)
    forwards = len(rounds)
    return Record(
        configuration, prompt, repeat, 7, accepted + forwards if tokens is None else tokens, drafted, verified, accepted,
        forwards, histogram(rounds), seconds, greedy,
    )  # fmt: skip


def test_configurations_on_different_prompts_are_not_compared():
    with pytest.raises(ValueError, match="1 prompts, expected the same 2"):
        collect([made(PLAIN, "a", 1.0), made(PLAIN, "b", 1.0), made(FULL, "a", 1.0)])
    with pytest.raises(ValueError, match="at least one"):
        collect([])


def test_decimals_tell_two_numbers_apart():
    assert decimals(0.6, 0.7, 2) == 2
    assert decimals(0.00512, 0.00514, 3) == 5
    assert decimals(0.5, 0.5, 3) == 3
    assert decimals(0.5, 0.5 + 1e-9, 3) == 3  # no difference worth six digits
