"""The embedded pair as benchmarks run it: without an EOS, so that every run writes the same number of tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.io.paths import ZOO
from drafters.models.pair import ModelPair, load_pair
from eval.bench.output import BenchError
from eval.suites import suite


def load_endless(device: torch.device, drafter: str = "drafter") -> ModelPair:
    """The embedded target with the drafter in that folder of the zoo, in fp32; no output of either ends by itself."""
    models = load_pair(target=ZOO / "target", drafter=ZOO / drafter, device=str(device), dtype="fp32")
    for model in (models.target, models.drafter):
        model.generation_config.eos_token_id = model.config.eos_token_id = None
    return models


def prompts(models: ModelPair, count: int, longest: int) -> list[Tensor]:
    """`count` prompts of the embedded suite as target ids, int64 (n,) with n <= longest. Raises BenchError where it has fewer."""
    texts = suite.load(suite.PYCODE, models.target_tokenizer, count)
    if len(texts) < count:
        raise BenchError(f"the suite has {len(texts)} prompts, got {count}; ask for at most that")
    return [suite.encode(text, models.target_tokenizer, longest) for text in texts]
