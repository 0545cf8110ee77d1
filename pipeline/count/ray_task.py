"""What a counting task does in its worker. Free of torch on purpose: it starts in a fraction of a second."""

from __future__ import annotations

from functools import cache

import numpy as np

from drafters.vocab.counting.pretokens import EncodingPlan
from drafters.vocab.counting.tally import Tally, private_copy


def count_segment(
    tokenizer_json: str, plan: EncodingPlan, size: int, *batches: list[tuple[str, str]]
) -> tuple[dict[str, np.ndarray], int]:
    """Counts per domain, int64 (size,), and the number of plainly encoded texts."""
    tally = Tally(_tokenizer(tokenizer_json), plan, size)
    for batch in batches:
        tally.extend(batch)
    return tally.finish(), tally.plain_texts


_tokenizer = cache(private_copy)  # one per worker process, which serves many tasks
