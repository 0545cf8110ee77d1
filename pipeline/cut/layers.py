"""A shallow model of some of a target's layers, with its embedding, final norm and head."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from pipeline.errors import ConfigError

# Decoders whose layers read one hidden state each, and whose head reads the final norm's output.
FAMILIES = ("gemma", "gemma2", "gemma3_text", "llama", "mistral", "qwen2", "qwen3", "smollm3")
_LAYER = re.compile(r"(?P<before>model\.layers\.)(?P<number>\d+)(?P<after>\..+)")


def choose_layers(config: PreTrainedConfig, layers: Sequence[int] | None, count: int) -> list[int]:
    """Return the numbers of the layers to take: those asked for, else the first ``count``.

    Raises ConfigError for a family whose layers cannot be taken by themselves, and for layers that the target does not have.
    """
    if config.model_type not in FAMILIES:
        raise ConfigError(
            f"pair.target is a {config.model_type}: a drafter can be cut from {', '.join(FAMILIES)}; give a drafter of its "
            "own with pair.drafter=DIR"
        )
    depth = config.num_hidden_layers
    chosen = list(range(count)) if layers is None else list(layers)
    if not chosen or chosen != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= depth:
        if layers is None:
            raise ConfigError(f"cut.count={count}: expected a whole number from 1 to the target's {depth} layers")
        raise ConfigError(
            f"cut.layers={chosen}: expected ascending numbers of the target's {depth} layers, 0 to {depth - 1}"
        )
    return chosen


def cut(target: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """Return a model of the target's embedding, the given layers in their order, its final norm and head; weights are copies.

    Args:
        layers: ascending numbers of the target's layers, as `choose_layers` returns them.
    """
    small = type(target)(cut_config(target.config, layers)).to(target.device, target.dtype)
    state = target.state_dict()
    with torch.no_grad():
        for name, weight in small.state_dict().items():
            match = _LAYER.fullmatch(name)
            source = f"{match['before']}{layers[int(match['number'])]}{match['after']}" if match else name
            weight.copy_(state[source])
    small.generation_config = copy.deepcopy(target.generation_config)
    return small.eval().requires_grad_(False)


def cut_config(config: PreTrainedConfig, layers: Sequence[int]) -> PreTrainedConfig:
    """Return the config of a model of these layers: every list with an entry per layer (kinds of attention, rope) follows."""
    depth, small = config.num_hidden_layers, copy.deepcopy(config)
    small.num_hidden_layers = len(layers)
    for name, value in list(vars(small).items()):
        if isinstance(value, list) and len(value) == depth and name in PER_LAYER:
            setattr(small, name, [value[number] for number in layers])
    return small


PER_LAYER = ("layer_types", "no_rope_layers")
