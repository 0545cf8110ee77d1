"""What of a pruned drafter is trained to heal it: its head and its norms."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel


def parameters(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """What is trained: the head's kept rows and bias, and the weights of every norm."""
    head = model.get_output_embeddings()
    found: dict[str, nn.Parameter] = {f"head_{name}".replace(".", "_"): part for name, part in head.named_parameters()}
    for name, module in model.named_modules():
        if "norm" in type(module).__name__.lower() or "norm" in name.rpartition(".")[2].lower():
            for part, weight in module.named_parameters(recurse=False):
                found[f"{name}_{part}".replace(".", "_")] = weight
    return found
