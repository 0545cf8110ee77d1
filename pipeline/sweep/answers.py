"""The target's own answers to a suite's prompts, which a curve is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from drafters.engine.limits import Limits
from drafters.engine.transformers_pair import TransformersPair
from drafters.io.atomic import write_atomic
from eval.expectation.common_text import continuations
from pipeline.sweep.passes import Passage
from pipeline.text import generations


def answers(pair: TransformersPair, prompts: Sequence[Tensor], tokens: int, seed: int, kept: Path) -> list[Passage]:
    """Each prompt, int64 (n,), with what the target says after it at T = 1, of which the answer is judged.

    `kept`: the file in which a killed run finds them again.
    """
    if not kept.exists():
        made = continuations(pair, prompts, range(len(prompts)), Limits(tokens), seed)
        write_atomic(kept, generations.pack([item.prompt for item in made], [item.new for item in made]))
    found = generations.read_shard(kept)
    return [
        Passage(number, torch.cat([prompt, new])[:-1], len(prompt) - 1) for number, (prompt, new) in enumerate(found)
    ]
