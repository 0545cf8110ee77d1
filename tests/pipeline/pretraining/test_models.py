"""Growing, cutting and widening: what keeps the function does, and what is copied is copied."""

import pytest
import torch

from drafters.rounding import excess, logits_bound
from pipeline.pretraining.models import Shape, build, stack, widen

SHAPE = Shape(2, 16, 2, 1, 24)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build(SHAPE, 40, 32, 0).eval()


@pytest.fixture
def tokens():
    return torch.randint(0, 40, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.mark.floats
def test_widening_keeps_the_function_and_adds_units_that_can_learn(model, tokens):
    wide = widen(model, 40).eval()
    assert excess(wide(tokens).logits, model(tokens).logits, logits_bound(wide, tokens)) <= 1  # zeros in a longer sum
    mlp = wide.model.layers[0].mlp
    assert mlp.up_proj.weight.shape == (40, 16)
    assert bool((mlp.up_proj.weight[24:] != 0).any())
    wide(tokens).logits.square().mean().backward()
    assert bool((mlp.down_proj.weight.grad[:, 24:] != 0).any())


def test_narrowing_is_refused(model):
    with pytest.raises(ValueError, match="at least 24, got 8"):
        widen(model, 8)


def test_stacking_repeats_the_layers(model):
    deep = stack(model, 4)
    for layer in range(4):
        ours, theirs = deep.model.layers[layer].state_dict(), model.model.layers[layer % 2].state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(ValueError, match="a multiple of 2 layers, got 3"):
        stack(model, 3)
