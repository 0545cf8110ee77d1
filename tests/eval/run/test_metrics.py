"""Metrics against numbers worked out by hand, and what becomes of nothing to divide by."""

import math

import numpy as np
import pytest

from eval.run.metrics import collect, decimals, interval
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


def test_interval_covers_a_proportion_as_often_as_it_says():
    """200 samples of 60 prompts with 20 trials each at 0.7: about 95 % of the intervals hold 0.7."""
    generator = np.random.default_rng(0)
    trials = np.full(60, 20.0)
    hits = 0
    for sample in range(200):
        low, high = interval(np.divide, generator.binomial(20, 0.7, 60).astype(float), trials, seed=sample)
        hits += low <= 0.7 <= high
    assert 0.89 <= hits / 200 <= 0.99


def test_interval_needs_two_prompts_and_is_the_same_every_time():
    assert interval(np.divide, np.ones(1), np.ones(1)) == (None, None)
    assert interval(np.divide, np.zeros(3), np.zeros(3)) == (None, None)
    samples = np.array([1.0, 2.0, 3.0]), np.array([4.0, 4.0, 4.0])
    first = interval(np.divide, *samples)
    assert first == interval(np.divide, *samples)
    assert first[0] < 0.5 < first[1]
    assert all(math.isfinite(value) for value in first)


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
