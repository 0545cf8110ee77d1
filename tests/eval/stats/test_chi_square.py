"""The test itself: published sample sizes, a uniform p-value under the true law, power against a known bias."""

import numpy as np
import pytest

from eval.stats.chi_square import ALPHA, detectable, p_value, pooled, samples_needed


@pytest.mark.parametrize(
    ("alpha", "cells", "total_variation", "samples"),
    [(1e-6, 8, 0.01, 205_279), (1e-6, 32, 0.02, 71_823), (1e-6, 256, 0.01, 579_139), (1e-9, 32, 0.005, 1_415_254)],
)
def test_sample_sizes(alpha, cells, total_variation, samples):
    assert samples_needed(cells, total_variation, alpha) == pytest.approx(samples, rel=1e-4)
    assert detectable(samples, cells, alpha) == pytest.approx(total_variation, rel=1e-4)


def test_rare_cells_are_pooled_by_the_law_alone():
    law = np.array([0.5, 0.001, 0.4, 0.002, 0.0, 0.097])
    observed, expected = pooled(np.array([480, 9, 400, 1, 0, 110]), law)
    assert expected.tolist() == pytest.approx([100.0, 400.0, 500.0])  # .001 and .002 are too few even together
    assert observed.tolist() == [120, 400, 480]


def test_an_impossible_outcome_is_no_matter_of_chance():
    with pytest.raises(ValueError, match=r"impossible outcomes were drawn: cells \[1\]"):
        p_value(np.array([999, 1]), np.array([1.0, 0.0]))


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="needs two cells"):
        p_value(np.array([3, 3]), np.array([0.5, 0.5]))


def test_level_and_power():
    generator = np.random.default_rng(0)
    law = generator.dirichlet(np.ones(32))
    values = [p_value(generator.multinomial(20_000, law), law) for _ in range(400)]
    assert 0.4 < np.mean(values) < 0.6
    bias = np.zeros(32)
    order = np.argsort(law)
    bias[order[-1]], bias[order[-2]] = 0.02, -0.02  # total variation 0.02 where it is hardest to see
    assert all(p_value(generator.multinomial(samples_needed(32, 0.02), law + bias), law) < ALPHA for _ in range(100))
