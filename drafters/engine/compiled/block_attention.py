"""Attention of a prompt's next block over all slots so far, with no mask: two fused kernels, merged by what their softmax sums to.

Softmax over two sets of keys is that over each, weighted by its share of the exponentials' sum (Dao et al. 2022, FlashAttention). The
slots before the block are seen by all its queries, the block's own causally; neither needs a mask, and heads that share keys are
rows of one product. Under a mask the same kernel reads a number for every query and key, in every head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from drafters.engine.compiled.grouped_attention import HARMLESS

NAME = "drafters_blocks"
SHORTEST = 32  # tokens of a block for which this pays
_CHAIN = "_drafters_chain"  # attribute of a mask that hides nothing but what follows each query's own slot
_fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # the one that tells its sums


def as_chain(mask: Tensor) -> Tensor:
    """The mask, marked as that of the last n slots in order: it need not be read where `block_attention` is asked."""
    setattr(mask, _CHAIN, True)
    return mask


def block_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Causal attention of query (B, H, n, d), the last n slots, over key and value (B, G, S, d): (B, n, H, d).

    Any mask but an `as_chain` one, and options that it was not made for, go to transformers' own.
    """
    options = {name: option for name, option in options.items() if option is not None}
    chain = getattr(attention_mask, _CHAIN, False) and query.shape[-1] == value.shape[-1]
    if not chain or dropout or set(options) - HARMLESS or query.shape[2] < SHORTEST:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **options)
    rows, heads, n, size = query.shape
    groups, before = key.shape[1], key.shape[2] - n
    shared = [part[:, :, before:].repeat_interleave(heads // groups, 1) for part in (key, value)]
    out, total = _fused(query, *shared, 0.0, True, scale=scaling)
    if before:
        stacked = query.reshape(rows, groups, -1, size)  # queries of a group's heads, one head after the other
        seen, weight = _fused(stacked, key[:, :, :before], value[:, :, :before], 0.0, False, scale=scaling)
        share = torch.sigmoid(weight.reshape(rows, heads, n) - total).unsqueeze(-1)  # of the slots before
        out = (seen.reshape(rows, heads, n, size) * share + out * (1 - share)).to(query.dtype)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, block_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
