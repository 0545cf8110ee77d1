"""What a draft at every position of a target's text would have been: features and labels, under teacher forcing.

Mamou et al. 2024 (arXiv 2405.04304, appendix D) let the drafter say one token after every prefix of the target's own
text and note whether it is the target's. That is the case of temperature 0 here. With sampling, rejection sampling
emits y either as an accepted draft, with probability min(p(y), q(y)), or after a rejection; so given the text, a
position's draft was accepted with probability min(1, q(y) / p(y)), and the rejected draft x follows (q - p)+. Drawing
that coin and that x gives text, drafts and acceptance their exact joint distribution: the prefixes are those that
speculative decoding meets, whatever the stop policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drafters.engine.decode import autoregressive
from drafters.engine.drafting.chain import usable
from drafters.engine.limits import Limits
from drafters.engine.transformers_pair import Pair
from drafters.probs import Sampling, warp
from drafters.rng.coins import Key, KeyedCoins
from drafters.samplers.draft import Sampler
from drafters.stop.features import describe, shown_law
from eval.expectation.common_text import Continuation, drafter_logits, target_logits
from eval.stop.replay import Trace
from eval.suites import suite as suites
from eval.suites.suite import SuiteConfig
from pipeline.disco.setup import Opened
from pipeline.disco.traces import trace_prompts

BATCH = 16  # prompts of a suite decoded together
LABEL_SEED = 1  # added to the seed: these coins must not be those that drew the text


@dataclass(frozen=True)
class Forced:
    """Both models' logits at every position of a text."""

    target: Tensor  # (n, V)
    drafter: Tensor  # (n, D)


def forced(pair: Pair, prompt: Tensor, new: Tensor) -> Forced:
    """Logits that each token of `new`, int64 (n,), was or would have been drawn from, after `prompt`, int64 (m,)."""
    text = Continuation(prompt, new, len(new))
    return Forced(target_logits(pair, text), drafter_logits(pair, text))


def trace(
    laws: Forced, new: Tensor, sampler: Sampler, sampling: Sampling, request: int, seed: int, start: int = 0
) -> Trace:
    """Features and labels of the draft at each position of `new`, int64 (n,); the columns of the past are left 0.

    `start`: place of the first of them in the sequence; with `seed` and `request` it names the coins.
    """
    p = warp(laws.target, sampling).double()
    masked = usable(laws.drafter, sampler)
    law = warp(masked, sampling)  # (n, D)
    q = _lifted(law, sampler).double()  # (n, V), or (n, V + 1) with the miss
    p = torch.nn.functional.pad(p, (0, q.shape[1] - p.shape[1]))
    n, device = len(new), p.device
    coins = KeyedCoins(seed + LABEL_SEED, torch.full((n,), request, device=device))
    position = start + torch.arange(n, device=device)
    y = new.to(device).unsqueeze(-1)
    p_y, q_y = (row.gather(-1, y).squeeze(-1) for row in (p, q))
    accepted = coins.accept(q_y, p_y, Key(position, None, "accept"))  # u p(y) < q(y)
    excess = (q - p).clamp(min=0)
    rejected = coins.draw(torch.where(accepted.unsqueeze(-1), q, excess), Key(position, None, "draft"))
    x = torch.where(accepted, y.squeeze(-1), rejected).unsqueeze(-1)
    p_x, q_x = (row.gather(-1, x).squeeze(-1) for row in (p, q))
    shown = shown_law(law, masked, sampling)
    is_miss = x.squeeze(-1) >= laws.target.shape[-1]
    drawn = shown.amax(-1) if sampling.greedy else torch.where(is_miss, 0.0, q_x)
    nothing = shown.new_zeros(n)  # the columns of the past depend on the policy: a replay fills them in
    features = describe(shown, drawn, torch.arange(n, device=device), (nothing, nothing, nothing), sampling.temperature)
    return Trace(
        features=features.cpu(),
        accepted=accepted.cpu(),
        chance=(p_x / q_x).clamp(max=1.0).float().cpu(),
        overlap=torch.minimum(p, q).sum(-1).clamp(max=1.0).float().cpu(),
    )


def _lifted(q: Tensor, sampler: Sampler) -> Tensor:
    proposal = sampler.token_proposal
    return proposal.lift(q) if proposal.total else proposal.extend(q)


def traced(
    pair: Pair,
    sampler: Sampler,
    prompts: Sequence[Tensor],
    requests: Sequence[int],
    sampling: Sampling,
    seed: int,
    max_new_tokens: int,
) -> list[Trace]:
    """The target's own continuations of prompts, int64 (m,) each, decoded as one batch, and their traces.

    `requests` number the prompts; they and `seed` name the coins.
    """
    coins = KeyedCoins(seed, torch.tensor(requests, device=pair.device))
    texts = autoregressive(pair, prompts, coins, Limits(max_new_tokens, sampling)).tokens
    return [
        trace(forced(pair, prompt, new), new, sampler, sampling, request, seed, len(prompt))
        for prompt, new, request in zip(prompts, texts, requests, strict=True)
    ]


def traced_suite(
    opened: Opened, suite: SuiteConfig, prompts: int, sampling: Sampling, seed: int, max_new_tokens: int
) -> list[Trace]:
    """Traces of a suite's first prompts."""
    tokenizer = opened.models.target_tokenizer
    chosen = suites.load(suite, tokenizer, prompts, seed)
    room = trace_prompts.room(max_new_tokens, opened.models.context_lengths, opened.pair.expansion)
    ids = [suites.encode(prompt, tokenizer, room) for prompt in chosen]
    found: list[Trace] = []
    for start in range(0, len(ids), BATCH):
        some = ids[start : start + BATCH]
        numbers = range(start, start + len(some))
        found += traced(opened.pair, opened.sampler, some, numbers, sampling, seed, max_new_tokens)
    return found
