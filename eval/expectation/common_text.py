"""The common text: the target's own continuations of prompts, and both models' logits at every position of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drafters.engine.cache.cached_model import Model
from drafters.engine.decode import autoregressive
from drafters.engine.limits import Limits
from drafters.engine.transformers_pair import Pair
from drafters.rng.coins import KeyedCoins

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


def common_text(
    pair: Pair, prompts: Sequence[Tensor], numbers: Sequence[int], limits: Limits, seed: int, positions: int
) -> list[Continuation]:
    """`continuations` of the first prompts until they have so many tokens, of two at least: an interval over one is none."""
    found: list[Continuation] = []
    while len(found) < len(prompts) and (len(found) < 2 or sum(len(text.new) for text in found) < positions):
        missing = positions - sum(len(text.new) for text in found)
        count = min(BATCH, max(2, math.ceil(missing / limits.max_new_tokens)))
        some = slice(len(found), len(found) + count)
        found += continuations(pair, prompts[some], numbers[some], limits, seed)
    return found


@torch.inference_mode()
def target_logits(pair: Pair, text: Continuation) -> Tensor:
    """Logits (n, V) that each new token was drawn from."""
    tokens = [*text.prompt.tolist(), *text.new.tolist()[:-1]]
    return _read(pair.open_target(1, len(tokens)), tokens, len(text.prompt) - 1)


@torch.inference_mode()
def drafter_logits(pair: Pair, text: Continuation) -> Tensor:
    """Logits (n, D) that a draft for each new token would have been drawn from; 0 behind the drafter's context, see `drafted`."""
    stream, last = _spelled(pair, text)
    fits = last[: _within(pair, last)]
    first = fits[0] if fits else 0
    stream = stream[: fits[-1] + 1 if fits else 1]
    logits = _read(pair.open_drafter(1, len(stream)), stream, first)
    found = logits[torch.tensor(fits, dtype=torch.int64, device=logits.device) - first]
    return torch.nn.functional.pad(found, (0, 0, 0, len(last) - len(fits)))


def drafted(pair: Pair, text: Continuation) -> int:
    """For how many of the new tokens the drafter's context has room.

    The engine stops drafting up to a round earlier: it needs a place for every draft of a round.
    """
    return _within(pair, _spelled(pair, text)[1])


def _spelled(pair: Pair, text: Continuation) -> tuple[list[int], list[int]]:
    """The text in drafter tokens, and the index of the one after which each draft is made: n."""
    stream = list(pair.prompt(text.prompt.tolist()))
    last = [len(stream) - 1]
    for token in text.new.tolist()[:-1]:
        stream.extend(pair.feed(token))
        last.append(len(stream) - 1)
    return stream, last


def _within(pair: Pair, last: Sequence[int]) -> int:
    """How many of these indices the drafter's context holds."""
    limit = pair.context[1]
    return len(last) if limit is None else sum(index < limit for index in last)


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
