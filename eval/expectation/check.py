"""Does what ran agree with what its laws let expect? The same prompts, by expectation and by the engine.

At temperature 0 nothing is left to chance: every round is known from the laws. With sampling the two differ by the coins, and
their differences over prompts must average to zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from eval.expectation.rounds import Rounds
from eval.records import Record

ALARM = 1e-6  # chance of a false alarm per row
TIES = 0.1  # of the prompts: more than near ties of fp32 logits explain by far
FEWEST = 6  # prompts under which a t-test says nothing


def disagreement(records: Sequence[Record], rounds: Rounds, prompts: Mapping[str, int], greedy: bool) -> str | None:
    """Why a row's rounds are not those of its laws; None where they may be.

    Args:
        records: of one configuration and repeat. rounds: expected, one entry per text.
        prompts: id -> entry of its text. greedy: temperature 0.
    """
    pairs = [
        (item.tokens / item.target_forwards, rounds.tokens[index] / rounds.target_forwards[index], item.greedy)
        for item in records
        if (index := prompts.get(item.prompt)) is not None
        and item.target_forwards
        and item.greedy in (None, "identical")
    ]
    if not pairs:
        return None
    measured, expected = np.array([pair[:2] for pair in pairs]).T
    if greedy:
        other = int((np.abs(measured - expected) > 1e-9 * expected).sum())
        # Two tokens of nearly the same probability come out in either order from forwards of other widths.
        near_ties = 1 + TIES * len(pairs)
        return (
            f"{other} of {len(pairs)} prompts took other rounds than their laws let expect"
            if other > near_ties
            else None
        )
    difference = measured - expected
    if len(pairs) < FEWEST or not difference.std():
        return None
    if float(stats.ttest_1samp(difference, 0.0).pvalue) >= ALARM:
        return None
    return f"{measured.mean():.2f} tokens per target forward on {len(pairs)} prompts where its laws let expect {expected.mean():.2f}"
