"""The common text: the target's own continuations of prompts, and both models' logits at every position of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drafters.coins import KeyedCoins
from drafters.engine.cache import Model
from drafters.engine.decode import autoregressive
from drafters.engine.limits import Limits
from drafters.engine.session import Pair

BATCH = 16  # prompts continued together


@dataclass(frozen=True)
class Continuation:
    """A prompt and what the target says after it."""

    prompt: Tensor  # int64 (m,)
    new: Tensor  # int64 (n,)
    limit: int  # new tokens there was room for; n is less where an EOS came first


@torch.inference_mode()
def continuations(
    pair: Pair, prompts: Sequence[Tensor], numbers: Sequence[int], limits: Limits, seed: int
) -> list[Continuation]:
    """Continue prompts, int64 (m,) each, by plain decoding.

    `numbers` and `seed` name the coins: a prompt has the same text whatever it is batched with, up to rounding.
    """
    found: list[Continuation] = []
    for start in range(0, len(prompts), BATCH):
        some = prompts[start : start + BATCH]
        coins = KeyedCoins(seed, torch.tensor(numbers[start : start + BATCH], device=pair.device))
        texts = autoregressive(pair, some, coins, limits).tokens
        found += [Continuation(prompt, new, limits.max_new_tokens) for prompt, new in zip(some, texts, strict=True)]
    return found


@torch.inference_mode()
def target_logits(pair: Pair, text: Continuation) -> Tensor:
    """Logits (n, V) that each new token was drawn from."""
    tokens = [*text.prompt.tolist(), *text.new.tolist()[:-1]]
    return _read(pair.open_target(1, len(tokens)), tokens, len(text.prompt) - 1)


@torch.inference_mode()
def drafter_logits(pair: Pair, text: Continuation) -> Tensor:
    """Logits (n, D) that a draft for each new token would have been drawn from."""
    stream = list(pair.prompt(text.prompt.tolist()))
    last = [len(stream) - 1]  # index of the drafter token after which each draft is made
    for token in text.new.tolist()[:-1]:
        stream.extend(pair.feed(token))
        last.append(len(stream) - 1)
    logits = _read(pair.open_drafter(1, len(stream)), stream, last[0])
    return logits[torch.tensor(last, device=logits.device) - last[0]]


def readable(pair: Pair, text: Continuation) -> Tensor:
    """bool (n,): the drafter can go on behind this token within a round; an EOS or a token of several ids ends a draft."""
    tokens = text.new.to(pair.device)
    goes_on = pair.feed_one(tokens) >= 0
    return goes_on & ~torch.isin(tokens, torch.tensor(pair.eos, device=tokens.device, dtype=tokens.dtype))


def _read(model: Model, tokens: list[int], first: int) -> Tensor:
    """Logits (n, V or D) after each token from number `first` on; those before it are read without any."""
    if first:
        model.extend(torch.tensor([tokens[:first]]), logits=False)
    logits = model.extend(torch.tensor([tokens[first:]]))
    assert logits is not None
    return logits[0]
