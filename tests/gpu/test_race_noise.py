"""The noise of races has the same bits on the GPU as on the CPU, so that both decide every race alike."""

import pytest
import torch

from drafters.rng.coins import KeyedCoins
from drafters.rng.counter_hash import STEP, exponential, mix

pytestmark = pytest.mark.gpu
V = 151_936


def test_exponentials_have_the_same_bits():
    bits = torch.cat([mix(torch.arange(2_000_000) * STEP), torch.arange(-1000, 1000)])
    assert torch.equal(exponential(bits.cuda()).cpu(), exponential(bits))


@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("count", [1, 4])
def test_races_have_the_same_winners(scale, count):
    generator = torch.Generator().manual_seed(0)
    law = (scale * torch.randn(8, V, generator=generator)).softmax(-1)
    requests, position = torch.arange(8), torch.arange(8) + 100
    expected = KeyedCoins(1, requests).winners(position, law, count)
    got = KeyedCoins(1, requests.cuda()).winners(position.cuda(), law.cuda(), count)
    assert torch.equal(got.cpu(), expected)
