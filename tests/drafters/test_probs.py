"""warp equals transformers' own processors; the residual is the law of Leviathan et al. 2023, equation 4."""

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from drafters.probs import Sampling, residual, warp


def transformers_law(logits, sampling):
    """In the order in which `generate` builds its processors."""
    processors = LogitsProcessorList()
    if sampling.temperature != 1.0:
        processors.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        processors.append(TopPLogitsWarper(sampling.top_p))
    return processors(None, logits.clone()).softmax(-1)


@pytest.mark.floats
@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("top_k", [0, 1, 5, 50, 200])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.5, 0.01])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_warp_equals_transformers(temperature, top_k, top_p, dtype):
    logits = torch.randn(32, 97, dtype=dtype, generator=torch.Generator().manual_seed(0)) * 3
    logits[:8, ::7] = -torch.inf  # a pruned vocabulary
    sampling = Sampling(temperature, top_k, top_p)
    assert torch.equal(warp(logits, sampling), transformers_law(logits, sampling))


def test_ties_at_the_edge_of_a_filter_are_transformers_own():
    logits = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 2.0, 2.0, 2.0]])
    for sampling in (Sampling(top_k=2), Sampling(top_p=0.5), Sampling(top_p=0.31, top_k=3)):
        assert torch.equal(warp(logits, sampling), transformers_law(logits, sampling))


def test_greedy_is_one_hot_at_the_lowest_of_the_largest():
    logits = torch.tensor([[0.0, 3.0, 3.0], [-torch.inf, -torch.inf, -5.0]])
    assert warp(logits, Sampling(0.0)).tolist() == [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    assert Sampling(0.0, top_k=2).greedy
    assert not Sampling(1e-3).greedy


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_laws_are_never_half_precision(dtype):
    law = warp(torch.randn(4, 1000).to(dtype), Sampling())
    assert law.dtype == torch.float32
    torch.testing.assert_close(law.sum(-1), torch.ones(4), rtol=1e-6, atol=0)


def test_warp_leaves_its_input_alone():
    logits = torch.randn(3, 9)
    before = logits.clone()
    warp(logits, Sampling(0.5, 3, 0.5))
    assert torch.equal(logits, before)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
    ],
)
def test_values_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**fields)


def test_residual():
    p, q = torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[0.1, 0.6, 0.3]])
    assert residual(p, q).dtype == torch.float64
    torch.testing.assert_close(residual(p, q), torch.tensor([[0.4, 0.0, 0.0]], dtype=torch.float64), atol=1e-7, rtol=0)


def test_acceptance_and_residual_make_up_the_target():
    p, q = (torch.randn(64, 20, dtype=torch.float64).softmax(-1) for _ in range(2))
    torch.testing.assert_close(
        torch.minimum(p, q) + residual(p, q), p, rtol=0, atol=2.3e-16
    )  # two roundings of numbers below one


def test_a_residual_without_mass_falls_back_to_p():
    p = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    assert torch.equal(residual(p, p), p.double())  # rounding may reject where p = q
    assert torch.equal(residual(p, torch.zeros_like(p)), p.double())  # no draft: a bonus token
    assert torch.isfinite(residual(p, p)).all()
