"""Attention of a few new tokens over a cache of fixed size, heads that share keys taken together (Ainslie et al. 2023, GQA).

transformers' own attention repeats keys and values for every query head before a compiled forward, which writes and reads them
once more per layer and step. Here the query heads of a group are rows of one product.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PretrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "drafters_grouped"
PLAIN = "sdpa"  # what it stands in for


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """softmax(q k' scaling + mask) v of query (1, H, n, d) over key and value (1, G, S, d), H a multiple of G: (1, n, H, d).

    `attention_mask` (1, 1, n, S) is additive. What it was not made for (batches, dropout, other masks, biases) goes to
    transformers' own.
    """
    options = {name: option for name, option in options.items() if option is not None}
    only = not dropout and not set(options) - HARMLESS and query.shape[0] == 1 and query.shape[1] % key.shape[1] == 0
    if not only or attention_mask is None or attention_mask.shape[:2] != (1, 1) or attention_mask.dtype == torch.bool:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **options)
    groups, slots, (heads, n, size) = key.shape[1], key.shape[2], query.shape[1:]
    rows = query.reshape(groups, -1, size)  # (G, (H / G) n, d)
    scores = torch.bmm(rows, key[0].transpose(1, 2)) * (size**-0.5 if scaling is None else scaling)
    scores = scores.view(groups, -1, n, slots) + attention_mask[0]
    weights = scores.to(torch.promote_types(scores.dtype, torch.float32)).softmax(-1).to(value.dtype)  # fp64 stays fp64
    out = torch.bmm(weights.view(groups, -1, slots), value[0])
    return out.view(1, heads, n, value.shape[-1]).transpose(1, 2).contiguous(), None


# Options of transformers' layers that say nothing about the result where the mask is given.
HARMLESS = frozenset({"is_causal", "position_ids", "cache_position", "use_cache", "output_attentions"})

AttentionInterface.register(NAME, grouped_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def replaceable(model: PreTrainedModel) -> list[PretrainedConfig]:
    """The configurations by which a CPU model's layers choose their attention; [] where it must stay as it is."""
    if model.device.type != "cpu" or not model._can_set_attn_implementation():
        return []
    return [config for config in configs_of(model) if config._attn_implementation == PLAIN]


def configs_of(model: PreTrainedModel) -> list[PretrainedConfig]:
    """The configurations of a model's parts, each once."""
    return list({id(part.config): part.config for part in model.modules() if hasattr(part, "config")}.values())


@contextmanager
def attending(configs: list[PretrainedConfig], name: str) -> Iterator[None]:
    """Inside, layers with these configurations attend by what is registered as `name`; outside, as they did before.

    A configuration that was changed to another attention since `replaceable` named it stays as it is.
    """
    changed = [config for config in configs if config._attn_implementation == PLAIN]
    for config in changed:
        config._attn_implementation_internal = name  # of this one alone: the public name sets those below it, too
    try:
        yield
    finally:
        for config in changed:
            config._attn_implementation_internal = PLAIN
