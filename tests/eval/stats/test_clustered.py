"""Intervals of shares in clusters: exact where clusters are single items, and at their level where items are alike."""

import numpy as np
import pytest
from scipy.stats import binomtest

from eval.stats.clustered import clustered_share


def test_single_items_give_clopper_and_pearson():
    hits = np.array([1.0] * 30 + [0.0] * 10)
    found = clustered_share(hits, np.ones(40))
    # the variance of a share over its own items is estimated with D - 1: 39 independent items instead of 40
    exact = binomtest(30, 40).proportion_ci(0.95)
    assert found.value == 0.75
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=0.004)


@pytest.mark.parametrize(("hits", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_none_or_all_is_not_certain(hits, share):
    found = clustered_share([hits * 50] * 12, [50] * 12)
    exact = binomtest(int(12 * share), 12).proportion_ci(0.95)  # a cluster each, however many items
    assert found.value == share
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


def test_too_little_to_know():
    assert clustered_share([3], [4]) is None
    assert clustered_share([3, 0], [4, 0]) is None  # a cluster without items is none


def _level(interval, repeats=400, clusters=25):
    """Share of beta-binomial samples, mean 0.9 and intraclass correlation 0.1, whose interval holds the mean."""
    held, draw = 0, np.random.default_rng(0)
    for _ in range(repeats):
        sizes = draw.integers(20, 200, clusters)
        hits = draw.binomial(sizes, draw.beta(8.1, 0.9, clusters))
        low, high = interval(hits, sizes)
        held += low <= 0.9 <= high
    return held / repeats


def test_items_that_are_alike_make_the_interval_wider():
    def clustered(hits, sizes):
        found = clustered_share(hits, sizes)
        return found.low, found.high

    def by_items(hits, sizes):  # the error this must not make
        found = binomtest(int(hits.sum()), int(sizes.sum())).proportion_ci(0.95)
        return found.low, found.high

    assert _level(clustered) >= 0.92  # 0.95 less three standard errors of 400 repeats
    assert _level(by_items, 100) < 0.7
