"""The exact law of the production engine's output, and the law it should have.

`exact_law` runs drafters.engine.decode itself under coins that take every branch, on table models; `reference_law`
multiplies the target's own probabilities. Their difference is rounding (about 1e-16 per token) or a bug: there is no
sampling noise to hide in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch

from drafters.engine.decode import speculative
from drafters.engine.limits import Limits
from drafters.probs import warp
from drafters.samplers.draft import Sampler
from drafters.stop.policy import StopPolicy
from eval.lossless.exact.enumeration import branches
from eval.lossless.toys.table_models import TablePair

Law = dict[tuple[int, ...], float]  # output tokens, EOS included -> probability


def exact_law(
    sampler: Sampler,
    stop: Callable[[], StopPolicy],
    pair: TablePair,
    prompt: list[int],
    limits: Limits,
    rows: int = 4096,
) -> Law:
    """Law of the new tokens that speculative decoding produces; at most `rows` branches in one batch.

    `stop` makes a fresh policy for each batch. Raises RuntimeError where a coin is used twice.
    """
    law: dict[tuple[int, ...], float] = defaultdict(float)
    for coins in branches(rows):
        prompts = [torch.tensor(prompt)] * len(coins)
        decoded = speculative(pair, sampler, stop(), prompts, coins, limits)
        for tokens, weight in zip(decoded.tokens, coins.weight.tolist(), strict=True):
            law[tuple(tokens.tolist())] += weight
    return dict(law)


def reference_law(pair: TablePair, prompt: list[int], limits: Limits) -> Law:
    """Law of plain decoding, by the chain rule over every sequence; no engine, no cache, no batch."""
    law: Law = {}
    open_sequences: list[tuple[tuple[int, ...], float]] = [((), 1.0)]
    while open_sequences:
        new, weight = open_sequences.pop()
        p = warp(pair.target.after([*prompt, *new]), limits.sampling)
        for token, chance in enumerate(p.tolist()):
            if chance == 0.0:
                continue
            longer = (*new, token)
            if token in pair.eos or len(longer) == limits.max_new_tokens:
                law[longer] = weight * chance
            else:
                open_sequences.append((longer, weight * chance))
    return law


def largest_error(law: Law, reference: Law) -> float:
    """The largest difference of a sequence's probabilities."""
    return max(abs(law.get(tokens, 0.0) - reference.get(tokens, 0.0)) for tokens in law.keys() | reference.keys())


def total_variation(law: Law, reference: Law) -> float:
    """Half the sum of all differences, in [0, 1]."""
    return 0.5 * sum(abs(law.get(tokens, 0.0) - reference.get(tokens, 0.0)) for tokens in law.keys() | reference.keys())
