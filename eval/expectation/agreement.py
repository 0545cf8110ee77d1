"""Does what ran agree with what its laws let expect? The same prompts, by expectation and by the engine.

Where nothing is left to chance (temperature 0, drafts included) every round is known from the laws. Elsewhere the text of the
expectation and that of the run are two draws of one law, so that forwards, and tokens, differ by nothing on average:

    D = (F - E[F]) - a (n - n')    F forwards, n tokens that ran; E[F], n' of the common text; a: forwards per token, any constant

has mean 0 on every prompt, and the last term takes away most of what texts of other lengths add to its spread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from eval.expectation.expected_rounds import Array, Rounds
from eval.run.records import IDENTICAL, Record

ALARM = 1e-6  # chance of a false alarm per row
TIES = 0.1  # of the prompts: more than near ties of fp32 logits explain by far
FEWEST = 6  # prompts under which a t-test says nothing


def disagreement(records: Sequence[Record], rounds: Rounds, prompts: Mapping[str, int], certain: bool) -> str | None:
    """Why a row's rounds are not those of its laws; None where they may be.

    Args:
        records: of one configuration and repeat. rounds: expected, one entry per text.
        prompts: id -> entry of its text. certain: neither the text nor the drafts are sampled.
    """
    found = [
        (item.target_forwards, item.tokens, prompts[item.prompt])
        for item in records
        if item.prompt in prompts and item.target_forwards and item.greedy in (None, IDENTICAL)
    ]
    if not found:
        return None
    forwards, tokens, texts = np.array(found).T
    expected, length = rounds.target_forwards[texts], rounds.tokens[texts]
    if certain:
        return _other_rounds(forwards, expected)
    difference = (forwards - expected) - expected.sum() / length.sum() * (tokens - length)
    if len(found) < FEWEST or not difference.std() or stats.ttest_1samp(difference, 0.0).pvalue >= ALARM:
        return None
    return (
        f"{tokens.sum() / forwards.sum():.2f} tokens per target forward on {len(found)} prompts where its laws let expect "
        f"{length.sum() / expected.sum():.2f}"
    )


def _other_rounds(forwards: Array, expected: Array) -> str | None:
    other = int((np.abs(forwards - expected) > 1e-6 * expected).sum())
    # Two tokens of nearly the same probability come out in either order from forwards of other widths.
    if other <= 1 + TIES * len(expected):
        return None
    return f"{other} of {len(expected)} prompts took other rounds than their laws let expect"
