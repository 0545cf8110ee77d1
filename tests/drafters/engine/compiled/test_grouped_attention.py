"""Grouped attention: the law of softmax attention, written out; models keep their own attention outside of it."""

import pytest
import torch

from drafters.engine.cache.cached_model import TransformersModel
from drafters.engine.compiled import compiled_forward
from drafters.engine.compiled.grouped_attention import NAME, attending, grouped_attention, replaceable
from drafters.rounding import excess, gamma, product_bound
from tests.drafters.engine.conftest import CONFIGS, make
from tests.rounding import largest_bound
from tests.tiers import slow_but

pytestmark = pytest.mark.floats

PLAIN_CHAIN = sorted(set(CONFIGS) - {"mistral-window", "gemma2"})  # those with windows are never compiled


def inputs(heads: int, groups: int, n: int, slots: int = 11, size: int = 5):
    torch.manual_seed(heads * 10 + n)
    query, key, value = (
        torch.randn(1, heads, n, size),
        torch.randn(1, groups, slots, size),
        torch.randn(1, groups, slots, size),
    )
    hidden = torch.arange(slots) > torch.arange(4, 4 + n).unsqueeze(-1)
    return query, key, value, torch.zeros(n, slots).masked_fill(hidden, torch.finfo(torch.float32).min)[None, None]


def written_out(query, key, value, mask, scale):
    """Head by head, query by query: head h reads the keys of group h // (H / G)."""
    _, heads, n, _ = query.shape
    share = heads // key.shape[1]
    out = torch.zeros(1, n, heads, value.shape[-1])
    for h in range(heads):
        for i in range(n):
            scores = torch.tensor([float(query[0, h, i] @ k) * scale for k in key[0, h // share]]) + mask[0, 0, i]
            out[0, i, h] = torch.softmax(scores, 0) @ value[0, h // share]
    return out


@pytest.mark.parametrize(("heads", "groups", "n"), [(4, 4, 1), (4, 2, 1), (6, 2, 3), (4, 1, 2)])
def test_each_head_reads_its_own_group(heads, groups, n):
    query, key, value, mask = inputs(heads, groups, n)
    out, weights = grouped_attention(torch.nn.Module(), query, key, value, mask, scaling=0.3, is_causal=None)
    assert weights is None
    # A weight is off by twice what scores are (softmax), and the sum over slots by gamma of its own length.
    scores = 0.3 * product_bound(query, key.flatten(0, 2)).max()
    bound = (2 * scores + 2 * gamma(2 * key.shape[2], query.dtype)) * value.abs().max()
    assert excess(out, written_out(query, key, value, mask, 0.3), bound) <= 1


def test_the_wrong_order_of_heads_would_be_seen():
    query, key, value, mask = inputs(6, 2, 3)
    swapped = query[:, [0, 2, 4, 1, 3, 5]]
    out, _ = grouped_attention(torch.nn.Module(), swapped, key, value, mask, scaling=0.3)
    assert (out - written_out(query, key, value, mask, 0.3)).abs().max() > 0.1


def test_what_it_was_not_made_for_goes_to_transformers(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "drafters.engine.compiled.grouped_attention.sdpa_attention_forward",
        lambda *a, **k: asked.append(k) or (a[1], None),
    )
    query, key, value, mask = inputs(4, 2, 1)
    plain = torch.nn.Module()
    grouped_attention(plain, query.expand(2, -1, -1, -1), key, value, mask)
    grouped_attention(plain, query, key, value, None)
    grouped_attention(plain, query, key, value, mask >= 0)
    grouped_attention(plain, query, key, value, mask, dropout=0.1)
    grouped_attention(plain, query, key, value, mask, softcap=30.0)
    assert len(asked) == 5
    grouped_attention(plain, query, key, value, mask, softcap=None, use_cache=True)
    assert len(asked) == 5


@pytest.mark.parametrize("name", slow_but("llama", PLAIN_CHAIN, "Dynamo: each family has code of its own, 1 s"))
@pytest.mark.parametrize("n", [1, 3])
def test_a_family_computes_the_same_logits(name, n, graphs, monkeypatch):
    monkeypatch.setattr(compiled_forward, "HOT", 0)
    monkeypatch.setattr(compiled_forward, "RARE", 10**9)
    model = make(name)
    prompt, tokens = torch.arange(5, 17).unsqueeze(0), torch.arange(20, 20 + 2 * n).view(2, 1, n)
    logits = []
    for compile in (False, True):
        cached = TransformersModel(model, 1, 32, compile)
        cached.extend(prompt)
        logits.append(torch.cat([cached.extend(some) for some in tokens]))  # the second time, without Dynamo
        if compile:
            assert cached.steps is not None
            assert not cached.steps._broken
            assert all(cached.steps._direct.values())
    assert graphs == [n, n]
    assert excess(logits[0], logits[1], largest_bound(model)) <= 1


def test_a_model_keeps_its_attention():
    model = make("llama")
    configs = replaceable(model)
    assert [config._attn_implementation for config in configs] == ["sdpa"]

    def fails():
        with attending(configs, NAME):
            assert model.config._attn_implementation == NAME
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fails()
    assert model.config._attn_implementation == "sdpa"
    model.set_attn_implementation("eager")  # its user's later choice
    with attending(configs, NAME):
        assert model.config._attn_implementation == "eager"
    assert model.config._attn_implementation == "eager"
    assert replaceable(make("llama", attn_implementation="eager")) == []
