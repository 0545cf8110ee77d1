"""What a pair is worth: bits per byte, acceptance, seconds per forward, ideal speed-up."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.pretraining.module import logits_of


def _windows(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], limit: int, length: int
) -> Iterator[tuple[Tensor, int]]:
    """Token windows (1, n) of the first `limit` bytes of text with the bytes their predicted tokens spell; each begins with EOS."""
    used = 0
    for text in texts:
        if used >= limit:
            return
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        for begin in range(0, len(ids), length - 1):
            piece = ids[begin : begin + length - 1]
            size = len(tokenizer.decode(piece).encode())
            used += size
            yield torch.tensor([[tokenizer.eos_token_id, *piece]]), size
            if used >= limit:
                return


@torch.inference_mode()
def bits_per_byte(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], limit: int, length: int
) -> float:
    """Cross-entropy in bits per byte of text: comparable between tokenizers, unlike perplexity per token."""
    nats, size = 0.0, 0
    for tokens, spelled in _windows(tokenizer, texts, limit, length):
        logits = logits_of(model, tokens[:, :-1])
        nats += float(F.cross_entropy(logits[0], tokens[0, 1:], reduction="sum"))
        size += spelled
    return nats / math.log(2) / size


@torch.inference_mode()
def mean_acceptance(
    target: PreTrainedModel,
    drafter: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    limit: int,
    length: int,
) -> float:
    """Mean of sum_x min(p, q) over positions, i.e. the acceptance rate of rejection sampling at temperature 1 on this text."""
    total, count = 0.0, 0
    for tokens, _ in _windows(tokenizer, texts, limit, length):
        p = F.softmax(logits_of(target, tokens[:, :-1])[0], dim=-1)
        q = F.softmax(logits_of(drafter, tokens[:, :-1])[0], dim=-1)
        total += float(torch.minimum(p, q).sum(dtype=torch.float64))
        count += p.shape[0]
    return total / count


@torch.inference_mode()
def step_seconds(model: PreTrainedModel, context: int = 128, repeats: int = 60) -> float:
    """Median seconds of one forward of one token after `context` tokens, batch 1."""
    tokens = torch.zeros(1, context, dtype=torch.long)
    cache = model(input_ids=tokens, use_cache=True).past_key_values
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        cache = model(input_ids=tokens[:, :1], past_key_values=cache, use_cache=True).past_key_values
        times.append(time.perf_counter() - start)
    return statistics.median(times[repeats // 6 :])


def ideal_speedup(acceptance: float, cost: float, longest: int = 64) -> float:
    """max over k of (1 - a^(k+1)) / ((1 - a)(1 + c k)): i.i.d. acceptance a, drafter cost c (Leviathan et al. 2023, theorem 3.8)."""

    def speedup(k: int) -> float:
        tokens = k + 1.0 if acceptance >= 1 else (1 - acceptance ** (k + 1)) / (1 - acceptance)
        return tokens / (1 + cost * k)

    return max(speedup(k) for k in range(longest + 1))
