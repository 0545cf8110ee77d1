"""Prompts read in blocks: logits as of the whole at once, and nothing that grows with the square of a prompt."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from drafters.engine.cache import blocks
from drafters.engine.cache.cached_model import TransformersModel
from drafters.engine.cache.layer import IndexedLayer
from drafters.engine.cache.supported_models import UnsupportedModel, check_supported
from drafters.rounding import excess
from tests.drafters.engine.conftest import CONFIGS, V, make
from tests.rounding import largest_bound

pytestmark = pytest.mark.floats
LONG = {"gpt2": {"n_positions": 700}, "gpt-bigcode": {"n_positions": 700}}


def long(name):
    return make(name, **LONG.get(name, {"max_position_embeddings": 700}))


def text(n, seed=0):
    return torch.randint(0, V, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


def worst(model, rows, next_block=(7, 1, 30)):
    """The largest difference, in units of its bound, of the logits of a block behind prompts from those of each whole text."""
    width = max(map(len, rows))
    cache = TransformersModel(model, len(rows), width + len(next_block))
    padded = torch.tensor([row + [-1] * (width - len(row)) for row in rows])
    cache.extend(padded, counts=list(map(len, rows)), logits=False)
    assert cache.lengths == list(map(len, rows))
    got = cache.extend(torch.tensor([list(next_block)] * len(rows)))
    with torch.inference_mode():
        whole = [model(input_ids=torch.tensor([[*row, *next_block]]), use_cache=False).logits[0, -3:] for row in rows]
    return excess(got, torch.stack(whole).float(), largest_bound(model, width))


@pytest.fixture
def short_blocks(monkeypatch):
    """Blocks of five tokens."""
    monkeypatch.setattr(blocks, "LIMITS", {"cpu": (5, 1 << 23)})
    monkeypatch.setattr(blocks, "SHORTEST", 1)
    monkeypatch.setattr(blocks, "SHORTEST_EAGER", 1)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_rows_of_all_lengths(name, short_blocks, models):
    assert blocks.block_length(models(name), 40, torch.device("cpu")) == 5
    assert worst(models(name), [text(n, n) for n in (33, 5, 1, 17)]) <= 1


@pytest.mark.parametrize("name", ["llama", "gpt-neox", "mistral-window", "gemma2"])
def test_blocks_as_long_as_they_are(name):
    """600 tokens: a block of 512 and one of 88; fused attention takes part where there is any."""
    assert worst(long(name), [text(600), text(560, 1)]) <= 1


def test_layers_of_both_kinds_under_fused_attention():
    """The layers that see every slot attend in two kernels, those with a window under a mask of what they see."""
    mixed = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1, "max_position_embeddings": 700}
    model = make("qwen2", **mixed)
    assert set(model.config.layer_types) == {"full_attention", "sliding_attention"}
    assert worst(model, [text(600), text(560, 1)]) <= 1


def test_a_row_that_takes_anothers_place(short_blocks, models):
    for name in ("llama", "mistral-window", "gemma2"):
        model, prompt = models(name), text(23, 1)
        cache = TransformersModel(model, 2, 40)
        cache.extend(torch.tensor([text(12), text(12, 2)]), logits=False)
        cache.restart(1, prompt)
        got = cache.extend(torch.tensor([[3, 4], [3, 4]]))
        for row, before in enumerate((text(12), prompt)):
            with torch.inference_mode():
                whole = model(input_ids=torch.tensor([[*before, 3, 4]]), use_cache=False).logits[0, -2:]
            assert excess(got[row], whole.float(), largest_bound(model)) <= 1


@pytest.mark.parametrize("name", ["mistral-window", "gemma2"])
def test_a_window_that_begins_one_slot_late_would_be_seen(name, short_blocks, models, monkeypatch):
    shown = IndexedLayer.update

    def late(self, keys, values, *rest):
        seen = shown(self, keys, values, *rest)
        if self.windowed and self.place.near:
            self.keys[:, :, self.place.near] = 0  # what the first query of the block sees first
        return seen

    monkeypatch.setattr(IndexedLayer, "update", late)
    assert worst(models(name), [text(33)]) > 1


class Largest(TorchDispatchMode):
    """Notes the numbers in the largest tensor that any operation returns."""

    numbers = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        out = function(*arguments, **(options or {}))
        for item in out if isinstance(out, tuple | list) else [out]:
            if isinstance(item, torch.Tensor) and item.numel() > self.numbers and item.untyped_storage().nbytes():
                self.numbers = min(item.numel(), item.untyped_storage().nbytes() // item.element_size())
        return out


@pytest.mark.parametrize("name", ["llama", "mistral-window", "gemma2"])
def test_nothing_grows_with_the_square_of_a_prompt(name):
    """The largest tensor is a layer's keys, or a mask within its limit; whole, it would be n^2 = 17 million numbers per head."""
    n = 4096
    model = make(name, max_position_embeddings=n + 8)
    with Largest() as largest:
        TransformersModel(model, 1, n + 8).extend(torch.tensor([text(n)]), logits=False)
    per_query = 4 if name == "gemma2" else 1  # heads whose scores eager attention writes
    assert largest.numbers <= max(512 * (n + 520), per_query * 512 * n) < n * n * per_query / 4
    with Largest() as whole, torch.inference_mode():
        model.set_attn_implementation("eager")
        model(input_ids=torch.tensor([text(512)]))
    assert whole.numbers >= 512**2  # it would be seen


@pytest.mark.parametrize("attention", ["flash_attention_2", "flash_attention_3", "flex_attention", "org/kernel"])
def test_attention_that_takes_no_additive_mask_is_refused(attention):
    model = make("llama")
    model.config._attn_implementation_internal = attention
    with pytest.raises(UnsupportedModel, match=rf"llama: attn_implementation='{attention}'.*give sdpa or eager"):
        check_supported(model)
