"""The bounds of `drafters.rounding`: every order of summation keeps to them, and a planted error does not."""

import copy
import math

import pytest
import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM

from drafters.rounding import excess, gamma, likely, logits_bound, product_bound

pytestmark = pytest.mark.floats
linear = torch.nn.functional.linear


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def elsewhere(tensor: Tensor, offset: int) -> Tensor:
    """The same values at an address that is ``offset`` elements past a multiple of 64 bytes: as if mapped from a file."""
    room = tensor.new_empty(tensor.numel() + offset)
    return room[offset:].view_as(tensor).copy_(tensor)


def test_gamma_is_highams():
    unit = 2.0**-24
    assert gamma(1, torch.float32) == unit / (1 - unit)
    assert gamma(1000, torch.float64) == pytest.approx(1000 * 2.0**-53, rel=1e-12)
    assert gamma(1000, torch.bfloat16) == gamma(1000, torch.float32) + 2.0**-8
    assert likely(100, torch.float32) == 80 * unit  # sqrt(n), eight standard deviations
    with pytest.raises(ValueError, match=r"fewer than 16,777,216 terms of torch\.float32, got 16,777,216"):
        gamma(2**24, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_every_order_and_place_of_a_sum_is_within_the_bound(size, dtype):
    left, right, bias = (
        drawn(9, size, dtype=dtype),
        drawn(33, size, seed=1, dtype=dtype),
        drawn(33, seed=2, dtype=dtype),
    )
    bound = product_bound(left, right, bias)
    whole = linear(left, right, bias)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(3))
    one_by_one = bias + sum(left[:, [i]] * right[:, i] for i in order.tolist())
    rows = torch.tensor([0, 5, 6, 32])
    assert excess(linear(left[:, order], right[:, order], bias), whole, bound) <= 1
    assert excess(one_by_one, whole, bound) <= 1
    assert excess(linear(left, right[rows], bias[rows]), whole[:, rows], bound[:, rows]) <= 1
    assert excess(torch.cat([linear(row, right, bias) for row in left.split(1)]), whole, bound) <= 1
    for offset in range(1, 16):
        moved = linear(elsewhere(left, offset), elsewhere(right, offset), elsewhere(bias, offset))
        assert excess(moved, whole, bound) <= 1
    exact = linear(left.double(), right.double(), bias.double())
    assert excess(whole, exact, bound / 2) <= 1  # one evaluation errs by half of what two may lie apart


def test_the_bound_is_no_excuse():
    """A bias lost, two rows swapped, a row of the next id, one weight off by a few bounds: each is far beyond it."""
    left, right, bias = drawn(9, 64), drawn(33, 64, seed=1), drawn(33, seed=2)
    whole, bound = linear(left, right, bias), product_bound(left, right, bias)
    swapped = torch.arange(33)
    swapped[[4, 20]] = swapped[[20, 4]]
    assert excess(linear(left, right), whole, bound) > 1000
    assert excess(linear(left, right[swapped], bias[swapped]), whole, bound) > 1000
    assert excess(linear(left, right.roll(1, 0), bias), whole, bound) > 1000
    nudged = right.clone()
    nudged[7, 3] += 4 * float((bound[:, 7] / left[:, 3].abs()).min())
    assert excess(linear(left, nudged, bias), whole, bound) > 1


def test_excess_sees_what_is_not_a_number_and_what_is_infinite():
    none, inf = math.nan, math.inf
    assert excess(torch.tensor([1.0, -inf]), torch.tensor([1.0, -inf]), 0.0) == 0
    assert excess(torch.tensor([1.0, 0.0]), torch.tensor([1.0, -inf]), 1e9) == inf
    assert excess(torch.tensor([none]), torch.tensor([1.0]), 1e9) == inf
    assert excess(torch.tensor([none]), torch.tensor([none]), 1e9) == inf
    assert excess(torch.tensor([1.0]), torch.tensor([1.5]), 0.0) == inf
    assert excess(torch.tensor([1.0, 3.0]), torch.tensor([1.5, 3.0]), torch.tensor([0.25, 1.0])) == 2
    with pytest.raises(ValueError, match=r"shape \(2, 3\), got \(3,\)"):
        excess(torch.zeros(3), torch.zeros(2, 3), 1.0)


SIZES = {
    "vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 64, "initializer_range": 0.15,
}  # fmt: skip
GPT = {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.15}
FAMILIES = {
    "LlamaConfig": SIZES,
    "Qwen2Config": SIZES | {"num_key_value_heads": 2},
    "Gemma2Config": SIZES | {"num_key_value_heads": 2, "head_dim": 8, "final_logit_softcapping": 3.0},
    "GPTNeoXConfig": SIZES,
    "GPTBigCodeConfig": GPT,
    "GPT2Config": GPT,
    "PhiConfig": SIZES,
    "CohereConfig": SIZES | {"num_key_value_heads": 2, "logit_scale": 0.25},
}
IDS = torch.arange(15).reshape(3, 5) * 7 % 97


def made(family: str):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(getattr(transformers, family)(**FAMILIES[family])).eval()
    if model.get_output_embeddings().bias is not None:
        model.get_output_embeddings().bias.data.normal_()
    return model.requires_grad_(False)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_keeps_to_a_tenth_of_its_bound_however_it_is_run(family):
    model = made(family)
    bound, whole = logits_bound(model, IDS), model(IDS).logits
    assert bound.shape == whole.shape
    precise = copy.deepcopy(model).double()(IDS).logits
    alone = torch.cat([model(row).logits for row in IDS.split(1)])
    assert excess(whole, precise, bound / 2) < 0.1
    assert excess(alone, whole, bound) < 0.1
    for parameter in model.parameters():
        parameter.data = elsewhere(parameter.data, 14)
    assert excess(model(IDS).logits, whole, bound) < 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_with_one_wrong_row_is_far_beyond_its_bound(family):
    model = made(family)
    bound, whole = logits_bound(model, IDS), model(IDS).logits
    for rows in (model.get_input_embeddings(), model.get_output_embeddings()):
        wrong, right = rows.weight.data.clone(), rows.weight.data
        wrong[7], wrong[8] = right[8], right[7]
        rows.weight.data = wrong
        assert excess(model(IDS).logits, whole, bound) > 100
        rows.weight.data = right
