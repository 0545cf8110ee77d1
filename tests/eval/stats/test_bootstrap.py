"""Bootstrap intervals on cases whose answer is known, and how often they hold the truth."""

import math

import numpy as np
import pytest

from eval.stats import bootstrap
from eval.stats.bootstrap import interval, interval_of_median


def in_deviations(level, monkeypatch):
    """Ends of the interval of the mean of 400 normal values, in standard errors of that mean."""
    monkeypatch.setattr(bootstrap, "LEVEL", level)
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)
    low, high = interval(np.divide, values, np.ones(400))
    error = values.std() / 20
    return np.array([low, high]) - values.mean(), error


def test_the_mean_of_normal_values_lies_within_two_standard_errors(monkeypatch):
    """The bootstrap distribution of a mean is normal with error s / sqrt(n). A 2.5 % quantile of 2,000 draws has the standard error
    sqrt(.025 * .975 / 2000) / phi(1.96) = 0.06 of it; the band is four of these."""
    ends, error = in_deviations(0.95, monkeypatch)
    assert ends / error == pytest.approx([-1.96, 1.96], abs=0.24)
    ends, error = in_deviations(0.90, monkeypatch)  # the planted bug: another level
    assert ends / error != pytest.approx([-1.96, 1.96], abs=0.24)


def test_the_median_has_the_interval_of_order_statistics():
    """Its bootstrap interval ends near the order statistics n / 2 +- 1.96 sqrt(n) / 2 (David and Nagaraja 2003, 7.1): 401 values 0..400."""
    low, high = interval_of_median(list(range(401)))
    assert low == pytest.approx(200 - 1.96 * math.sqrt(401) / 2, abs=4)
    assert high == pytest.approx(200 + 1.96 * math.sqrt(401) / 2, abs=4)
    assert interval_of_median([1.0]) == (None, None)
    assert interval_of_median([2.0, 2.0, 2.0]) == (2.0, 2.0)


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
