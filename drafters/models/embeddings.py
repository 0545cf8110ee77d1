"""The number of rows of a model's input embedding, which need not be that of its head."""

import torch
from torch import nn
from transformers import PreTrainedModel


def grow_embedding(model: PreTrainedModel, rows: int) -> PreTrainedModel:
    """Give the input embedding at least ``rows`` rows, in place, zeros behind the others; the model is also returned.

    Of two models with one vocabulary the one padded less then reads whatever id the other says. The head stays as it is.
    """
    embedding = model.get_input_embeddings()
    return model if len(embedding.weight) >= rows else resize_embedding(model, rows)


def resize_embedding(model: PreTrainedModel, rows: int) -> PreTrainedModel:
    """Give the input embedding exactly ``rows`` rows, in place: zeros are added, or rows cut off; a tied head is untied."""
    embedding = model.get_input_embeddings()  # the module stays: some families scale in it (Gemma 3)
    old = embedding.weight
    weight = old.new_zeros(rows, old.shape[1])
    shared = min(rows, len(old))
    with torch.no_grad():
        weight[:shared] = old[:shared]
    embedding.weight = nn.Parameter(weight, requires_grad=old.requires_grad)
    embedding.num_embeddings = rows
    return model
