"""Which models the engine's cache can hold: what their configuration says of it."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from drafters.errors import DraftersError

OWN = "drafters_"  # what the names of this library's attention begin with


class UnsupportedModel(DraftersError):
    """The model cannot roll back, or does not compute the same from this cache; the message says why."""


def text_config(model: PreTrainedModel) -> Any:
    """The part that describes the decoder."""
    return model.config.get_text_config(decoder=True)


def attention_window(model: PreTrainedModel) -> tuple[int | None, bool]:
    """(window or None, whether the model wants one mask per layer type)."""
    config = text_config(model)
    types = set(getattr(config, "layer_types", None) or [])
    window = getattr(config, "sliding_window", None)
    if "sliding_attention" in types and window:
        return int(window), "full_attention" in types or model.config.model_type.startswith("gemma")
    if not types and window and getattr(config, "use_sliding_window", True):
        return int(window), False
    return None, False


def window_layers(model: PreTrainedModel) -> list[bool]:
    """Per layer, whether it attends to a window only."""
    config, windowed = text_config(model), attention_window(model)[0] is not None
    types = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    return [windowed and kind == "sliding_attention" for kind in types]


def check_supported(model: PreTrainedModel) -> None:
    """Raise UnsupportedModel for a recurrent state, positions from an own counter, or attention that obeys no additive mask."""
    attention = getattr(text_config(model), "_attn_implementation", None) or "eager"
    if attention not in ("eager", "sdpa") and not attention.startswith(OWN):
        raise UnsupportedModel(
            f"{model.config.model_type}: attn_implementation={attention!r} cannot be given the masks of drafts; give sdpa or eager: "
            "model.set_attn_implementation('sdpa'), or attn_implementation='sdpa' when loading it."
        )
    inner = unwrapped(model)
    check_architecture(type(inner), model.config, inner)


def check_architecture(kind: type[nn.Module], config: PreTrainedConfig, model: nn.Module | None = None) -> None:
    """The same of a class and its config, before any model is built. Raises UnsupportedModel."""
    name = config.model_type
    if getattr(kind, "_is_stateful", False):
        raise UnsupportedModel(
            f"{name}: keeps a recurrent state that cannot be rolled back; choose an attention-only model."
        )
    if "position_ids" not in inspect.signature((model or kind).forward).parameters:
        raise UnsupportedModel(
            f"{name}: takes no position_ids, so rows of different lengths cannot be placed; choose another model."
        )
    unknown = set(getattr(config.get_text_config(decoder=True), "layer_types", None) or []) - {
        "full_attention",
        "sliding_attention",
    }
    if unknown:
        raise UnsupportedModel(
            f"{name}: layer types {sorted(unknown)} cannot be rolled back; choose an attention-only model."
        )


def unwrapped(model: nn.Module) -> nn.Module:
    """The transformers model inside compilation, adapters and parallel wrappers, whose signature theirs hide.

    What runs is the wrapper; this one only tells which arguments it passes on.
    """
    while not isinstance(model, PreTrainedModel):
        base: Any = getattr(model, "get_base_model", None)  # of adapters
        inner = base() if callable(base) else getattr(model, "_orig_mod", None) or getattr(model, "module", None)
        if not isinstance(inner, nn.Module) or inner is model:
            break
        model = inner
    return model
