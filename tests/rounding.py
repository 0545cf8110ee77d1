"""For tests of models that run in another way: through a cache, compiled, in a batch."""

import torch
from transformers import PreTrainedModel

from drafters.rounding import logits_bound


def largest_bound(model: PreTrainedModel, longest: int = 48) -> float:
    """The largest `logits_bound` of ``model`` on its vocabulary in order: for logits of any text of up to ``longest`` tokens.

    Hidden states are normed before the head, so that one text's bound is much like another's.
    """
    tokens = torch.arange(longest) % model.get_input_embeddings().weight.shape[0]
    return float(logits_bound(model, tokens.unsqueeze(0)).max())
