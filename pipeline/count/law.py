"""The target's own law on text that it wrote: what it was likely to say, where counting shows only what it said.

The sum of its laws over the positions of a text has the expectation of the counts of such text and less variance (Rao and Blackwell),
above all for tokens that a text of this size shows once or never. It ranks those far better than their ids do: see the table of
docs/guides/how_much_vocabulary.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from drafters.probs import Sampling, warp
from pipeline.runner.stage import Advance, unseen

LAW = "law"  # name of the tensor beside the counts
WEIGHT = 10.0  # counts that one expected token is worth: from 3 to 30 choices are as good
ROWS = 64  # positions whose laws are held at once


@torch.inference_mode()
def expected_counts(
    model: PreTrainedModel, requests: Iterable[tuple[Tensor, Tensor]], sampling: Sampling, advance: Advance = unseen
) -> Tensor:
    """Sum the target's laws over every token of the continuations: float64 (V,), as many in all as there are tokens.

    Args:
        requests: (prompt, continuation) of each, int64 (n,), n >= 1; every token of a continuation is one position.
        sampling: by which they were drawn.
    """
    total = torch.zeros(model.config.get_text_config().vocab_size, dtype=torch.float64)
    for prompt, new in requests:
        ids = torch.cat([prompt, new])[:-1].unsqueeze(0).to(model.device)
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(new)).logits[0, -len(new) :]
        for rows in logits.split(ROWS):
            total += warp(rows.float(), sampling).sum(0, dtype=torch.float64).cpu()[: len(total)]
        advance(len(new))
    return total


def read_by_law(lengths: Sequence[int], heldout: Sequence[bool], limit: int) -> list[bool]:
    """Which requests the target reads again: every k-th, k >= 2, of about `limit` tokens in all; none that is held out.

    What it has read is no unseen text any more, so at least half stays unread, to judge the choice by.
    """
    every = max(2, -(-sum(lengths) // limit)) if limit else 0
    return [bool(every) and number % every == 0 and not held for number, held in enumerate(heldout)]


def prior_of(tables: Mapping[str, Tensor]) -> Tensor | None:
    """The law among a count stage's tensors as counts to add where tokens are ranked, float64 (V,); None without one."""
    return WEIGHT * tables[LAW] if LAW in tables else None
