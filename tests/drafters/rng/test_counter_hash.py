"""Hashed noise: exact on every device, 63 bits, never 0 and never infinite."""

import numpy as np
import pytest
import torch
from scipy import stats

from drafters.rng.counter_hash import STEP, exponential, mix, mix_int, uniform

SAMPLES = mix(torch.arange(1_000_000) * STEP)
PINNED = ["0x1.12f992a7286f2p+1", "0x1.212de30b98d7ap-1", "0x1.b6eafe549d471p-6", "0x1.c4a8b07657de0p+1"]
EXTREMES = torch.tensor([0, 1, 2, -1, -2, 2**62 - 1, 2**62, 2**63 - 1, -(2**63), -(2**62)])


def test_mix_equals_the_published_generator():
    # SplitMix64 seeded with 0: its first three outputs
    assert [mix_int(n * 0x9E3779B97F4A7C15 % 2**64) for n in (1, 2, 3)] == [
        0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F,
    ]  # fmt: skip
    states = torch.arange(1, 100) * STEP
    assert [value % 2**64 for value in mix(states).tolist()] == [mix_int(state % 2**64) for state in states.tolist()]


def test_uniform_lies_in_the_half_open_interval():
    assert uniform(torch.tensor([0, -1])).tolist() == [0.0, 1.0 - 2.0**-53]


def test_exponential_equals_the_logarithm_in_higher_precision():
    bits = torch.cat([SAMPLES, EXTREMES, torch.arange(-2000, 2000), SAMPLES >> 40])  # both ends, too
    n = ((bits >> 1) & (2**63 - 1)).numpy().astype(np.longdouble)
    expected = -np.log1p(-(n + 0.5) * np.longdouble(2) ** -63)
    # Where 1 - u is near 0 the right-hand side is the inexact one: longdouble has 64 bits.
    near_one = n > 2**62
    expected[near_one] = -np.log((np.longdouble(2) ** 63 - n[near_one] - 0.5) * np.longdouble(2) ** -63)
    assert float(np.abs(exponential(bits).numpy() / expected - 1).max()) < 1e-15


def test_exponential_is_positive_finite_and_resolves_63_bits():
    noise = exponential(EXTREMES)
    assert float(noise.min()) == 2.0**-64
    assert 44.0 < float(noise.max()) < 45.0
    near_zero, far = exponential(torch.arange(0, 4000, 2)), exponential(torch.arange(-4000, 0, 2))
    assert bool((near_zero.diff() > 0).all())
    assert bool((far.diff() > 0).all())


def test_exponential_values_are_pinned():
    """These bits follow from the definition on any IEEE device; a change of them changes every race's output."""
    got = [value.hex() for value in exponential(mix(torch.arange(1, 5) * STEP)).tolist()]
    assert got == PINNED


def test_exponential_law():
    noise = exponential(SAMPLES).numpy()
    assert stats.kstest(noise, "expon").pvalue > 1e-6
    assert abs(noise.mean() - 1) < 5e-3
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 5e-3


@pytest.mark.parametrize("layout", ["strided", "single", "wide"])
def test_exponential_does_not_depend_on_the_layout(layout):
    bits = SAMPLES[:1001]
    expected = exponential(bits)
    if layout == "strided":
        assert torch.equal(exponential(SAMPLES[:2002].view(-1, 2).t()[0]), exponential(SAMPLES[:2002:2].clone()))
    elif layout == "single":
        assert torch.equal(torch.stack([exponential(bits[i]) for i in range(50)]), expected[:50])
    else:
        assert torch.equal(exponential(bits.view(7, 143)).flatten(), expected)
