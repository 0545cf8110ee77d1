"""A numeric test of a model in the engine's cache: what attributes do not tell."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from drafters.engine.cache.cached_model import TransformersModel
from drafters.engine.cache.supported_models import UnsupportedModel


@torch.inference_mode()
def self_test(model: PreTrainedModel, tolerance: float = 2e-3) -> None:
    """Compare logits from this cache, after a roll-back and in rows of different lengths, with uncached ones.

    Raises UnsupportedModel with the difference found. Catches what attributes do not tell: hidden state, ignored positions.
    """
    vocabulary = model.get_input_embeddings().weight.shape[0]
    tokens = (torch.arange(24) * 7919 % vocabulary).view(2, 12).to(model.get_input_embeddings().weight.device)
    session = TransformersModel(model, rows=2, capacity=16)
    session.extend(tokens[:, :6], logits=False)
    session.extend(tokens[:, 9:12])  # to be rolled back
    session.keep([[5], [3]])
    ragged = torch.stack([tokens[0, 6:10], tokens[1, 4:8]])
    got = session.extend(ragged)
    assert got is not None
    for row, path in enumerate((tokens[:1, :10], tokens[1:, :8])):
        expected = model(input_ids=path, use_cache=False).logits[0, -4:].to(got.dtype)
        scale = expected.abs().max().clamp(min=1.0) * (1.0 if model.dtype in (torch.float32, torch.float64) else 30.0)
        worst = (got[row] - expected).abs().max() / scale
        if not worst <= tolerance:
            raise UnsupportedModel(
                f"{model.config.model_type}: logits from the cache differ from uncached ones by {float(worst):.2g} of their scale "
                f"(expected <= {tolerance}); this architecture cannot be rolled back here. Choose another model."
            )
