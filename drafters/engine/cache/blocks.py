"""How long a prompt's blocks are: what one forward needs beside the cache must not grow with the square of the prompt."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from drafters.engine.cache.supported_models import attention_window, text_config

# By type of device: tokens of the longest block, and numbers that one forward's mask may have. On a CPU 512 tokens are as fast as all
# at once (256: 8 % slower at 32k tokens, 2 layers, one thread); a GPU wants more work.
LIMITS = {"cpu": (512, 1 << 24)}
ON_GPU = (2048, 1 << 28)
SHORTEST, SHORTEST_EAGER = 64, 16  # no block is cut shorter, however long the prompt


def block_length(model: PreTrainedModel, capacity: int, device: torch.device) -> int:
    """Tokens of a prompt to feed at once into a cache of so many slots.

    Fused attention reads one mask, eager attention makes as large a matrix of scores for every head.
    """
    longest, numbers = LIMITS.get(device.type, ON_GPU)
    window, by_type = attention_window(model)
    seen = capacity if window is None or by_type else min(capacity, window + longest)
    eager = text_config(model)._attn_implementation == "eager"
    if eager:
        numbers //= text_config(model).num_attention_heads
    return max(SHORTEST_EAGER if eager else SHORTEST, min(longest, capacity, numbers // seen))
