"""Features: sorted, finite, equal to fp64 references; a row's past."""

import math

import pytest
import torch

from drafters.probs import Sampling
from drafters.stop.features import (
    DRAWN,
    ENTROPY,
    FLOOR,
    NAMES,
    POSITION,
    RECENT,
    STEP,
    STREAK,
    TEMPERATURE,
    TOP,
    UNKNOWN,
    _on_device,
    describe,
    past_columns,
    remember,
    shown_law,
)  # fmt: skip


def columns(rows):
    return torch.zeros(rows, dtype=torch.int64), torch.zeros(rows), torch.full((rows,), 0.5)


def test_top_probabilities_descend_and_entropy_is_that_of_all_tokens():
    law = torch.rand(5, 300, generator=torch.Generator().manual_seed(0)).pow(8)
    law = law / law.sum(-1, keepdim=True)
    drawn = law[:, 7]
    got = describe(law, drawn, torch.arange(5), columns(5), 0.7)
    assert got.shape == (5, len(NAMES))
    assert got.dtype == torch.float32
    exact = law.double()
    expected = exact.sort(-1, descending=True).values[:, :TOP]
    assert torch.allclose(got[:, :TOP].double().exp(), expected.clamp(min=FLOOR), rtol=1e-5)
    entropy = -(exact * exact.clamp(min=1e-300).log()).sum(-1)
    assert torch.allclose(got[:, ENTROPY].double(), entropy, atol=1e-5)
    assert torch.allclose(got[:, DRAWN], drawn.clamp(min=FLOOR).log())
    assert torch.allclose(got[:, POSITION].expm1(), torch.arange(5.0), atol=1e-5)
    assert got[:, TEMPERATURE].tolist() == pytest.approx([0.7] * 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [3, 300])
def test_a_device_and_the_host_see_the_same(size, dtype):
    generator = torch.Generator().manual_seed(2)
    law = (4 * torch.randn(6, size, generator=generator, dtype=dtype)).softmax(-1)
    law[0, 1:] = 0.0
    drawn, position = law[:, -1], torch.arange(-1, 5)
    past = torch.arange(6), torch.arange(0.0, 12.0, 2.0), torch.linspace(0, 1, 6)
    host, device = describe(law, drawn, position, past, 1.0), _on_device(law, drawn, position, past, 1.0)
    assert host.dtype == device.dtype == torch.float32
    assert torch.allclose(host, device, rtol=2e-6, atol=2e-6)  # some roundings of fp32 at values up to 14
    assert torch.allclose(host[:, STEP : RECENT + 1], past_columns(*past), rtol=2e-6)


@pytest.mark.floats
def test_a_row_is_described_alike_alone_and_in_a_batch():
    law = (4 * torch.randn(7, 4096, generator=torch.Generator().manual_seed(3))).softmax(-1)
    position, past = torch.arange(7), (torch.arange(7), torch.arange(7.0), torch.linspace(0, 1, 7))
    together = describe(law, law[:, 5], position, past, 0.0)
    for row in range(7):
        one = slice(row, row + 1)
        alone = describe(law[one], law[one, 5], position[one], tuple(part[one] for part in past), 0.0)
        assert torch.equal(
            alone, together[one]
        )  # equal bits: on the host each row is computed by itself, from the same numbers


@pytest.mark.parametrize("size", [1, 4, 10, 11])
def test_a_point_and_a_short_law_are_finite(size):
    law = torch.eye(size)[:1]
    got = describe(law, torch.zeros(1), torch.tensor([-1]), columns(1), 0.0)  # a miss, in a finished row
    assert bool(torch.isfinite(got).all())
    assert got[0, 0] == 0.0
    assert got[0, ENTROPY] == 0.0
    assert got[0, 1:TOP].tolist() == pytest.approx([torch.tensor(FLOOR).log().item()] * (TOP - 1))


def test_greedy_shows_the_law_before_its_point_and_sampling_its_own():
    logits = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    q = torch.rand(2, 6)
    assert torch.equal(shown_law(q, logits, Sampling(0.7)), q)
    assert torch.allclose(shown_law(q, logits, Sampling(0.0)), logits.softmax(-1))


def test_the_past_of_a_row():
    streak, recent = UNKNOWN
    for _ in range(3):
        streak, recent = remember(streak, recent, 2.0, 0.0)
    assert streak == 6
    one_by_one = UNKNOWN[1]
    for _ in range(6):
        one_by_one = 0.85 * one_by_one + 0.15
    assert recent == pytest.approx(one_by_one)
    streak, after = remember(streak, recent, 1.0, 1.0)
    assert streak == 0
    assert after == pytest.approx(0.85 * (0.85 * recent + 0.15))
    got = past_columns(torch.tensor([3]), torch.tensor([4.0]), torch.tensor([0.25]))[0]
    assert got.tolist() == pytest.approx([math.log(4), math.log(8), 0.25])
    assert (STREAK - STEP, RECENT - STEP) == (1, 2)
