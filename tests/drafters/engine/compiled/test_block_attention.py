"""Attention of a block without a mask: that of transformers under the mask, to rounding; everything else is left to transformers."""

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from drafters.engine.compiled import block_attention as module
from drafters.engine.compiled.block_attention import as_chain, block_attention
from drafters.rounding import excess, gamma, product_bound

pytestmark = pytest.mark.floats


def inputs(rows, heads, groups, n, slots, dtype=torch.float32, size=16):
    torch.manual_seed(slots)
    query = torch.randn(rows, heads, n, size, dtype=dtype)
    key, value = (torch.randn(rows, groups, slots, size, dtype=dtype) for _ in range(2))
    hidden = torch.arange(slots) > slots - n + torch.arange(n).unsqueeze(-1)
    mask = torch.zeros(n, slots, dtype=dtype).masked_fill(hidden, torch.finfo(dtype).min)[None, None]
    layer = torch.nn.Module()
    layer.num_key_value_groups = heads // groups
    return layer, query, key, value, mask


def bound(query, key, value):
    """As of two evaluations of softmax attention: scores, twice, and the sums over slots."""
    scores = 0.3 * product_bound(query, key.flatten(0, 2)).max()
    return (2 * scores + 2 * gamma(2 * key.shape[2] + 8, query.dtype)) * value.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("rows", "heads", "groups", "n", "slots"), [(2, 6, 2, 40, 140), (1, 4, 4, 64, 64), (1, 4, 1, 33, 34)]
)
def test_it_is_attention_under_the_mask(rows, heads, groups, n, slots, dtype):
    layer, query, key, value, mask = inputs(rows, heads, groups, n, slots, dtype)
    expected, _ = sdpa_attention_forward(layer, query, key, value, mask, scaling=0.3)
    got, weights = block_attention(layer, query, key, value, as_chain(mask), scaling=0.3, is_causal=None)
    assert weights is None
    assert excess(got, expected, bound(query, key, value)) <= 1


def test_the_wrong_share_of_earlier_slots_would_be_seen(monkeypatch):
    layer, query, key, value, mask = inputs(1, 4, 2, 40, 90)
    expected, _ = sdpa_attention_forward(layer, query, key, value, mask, scaling=0.3)
    fused = module._fused
    monkeypatch.setattr(module, "_fused", lambda *a, **k: (fused(*a, **k)[0], fused(*a, **k)[1] * 1.01))
    got, _ = block_attention(layer, query, key, value, as_chain(mask), scaling=0.3)
    assert excess(got, expected, bound(query, key, value)) > 1


def test_what_it_was_not_made_for_goes_to_transformers(monkeypatch):
    asked = []
    monkeypatch.setattr(module, "sdpa_attention_forward", lambda *a, **k: asked.append(k) or (a[1], None))
    layer, query, key, value, mask = inputs(1, 4, 2, 40, 90)
    block_attention(layer, query, key, value, mask)  # any mask but one said to be a chain's
    block_attention(layer, query, key, value, None)
    block_attention(layer, query, key, value, as_chain(mask.clone()), dropout=0.1)
    block_attention(layer, query, key, value, as_chain(mask.clone()), softcap=30.0)
    block_attention(layer, query[:, :, :8], key, value, as_chain(mask[:, :, :8]))  # two kernels would not pay
    block_attention(layer, query, key, value[..., :8], as_chain(mask.clone()))
    assert len(asked) == 6
    block_attention(layer, query, key, value, as_chain(mask.clone()), softcap=None, use_cache=True)
    assert len(asked) == 6
