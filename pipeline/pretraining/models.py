"""Architectures of the embedded models and how one is grown from another."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM


@dataclass
class Shape:
    """A Llama shape: layers x hidden, query and key-value heads, feed-forward width."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    feed_forward: int


def build(shape: Shape, vocabulary: int, context: int, end: int) -> LlamaForCausalLM:
    """A freshly initialised Llama with tied embeddings; `end` is both BOS and EOS."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
    )
    return LlamaForCausalLM(config)


def stack(model: LlamaForCausalLM, layers: int) -> LlamaForCausalLM:
    """Grow to `layers` layers by repeating the whole stack: G_stack of Du et al. 2024 (arXiv 2405.15319), depth-wise.

    Raises ValueError unless `layers` is a multiple of the present depth.
    """
    depth = model.config.num_hidden_layers
    if layers % depth:
        raise ValueError(f"growth: expected a multiple of {depth} layers, got {layers}.")
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = None
    grown = LlamaForCausalLM(config)
    state = model.state_dict()
    repeated = {}
    for name in grown.state_dict():
        parts = name.split(".")
        if parts[:2] == ["model", "layers"]:
            parts[2] = str(int(parts[2]) % depth)
        repeated[name] = state[".".join(parts)]
    grown.load_state_dict(repeated)
    return grown


def widen(model: LlamaForCausalLM, feed_forward: int) -> LlamaForCausalLM:
    """The same function with wider feed-forward layers: new units read at random and write nothing yet.

    Cheap capacity for a drafter: at these widths a layer's time hardly depends on its width. Raises ValueError for a
    narrower width than the present one.
    """
    width = model.config.intermediate_size
    if feed_forward < width:
        raise ValueError(f"growth: expected a feed-forward width of at least {width}, got {feed_forward}.")
    config = copy.deepcopy(model.config)
    config.intermediate_size = feed_forward
    grown = LlamaForCausalLM(config)
    state = grown.state_dict()
    with torch.no_grad():
        for name, old in model.state_dict().items():
            if old.shape == state[name].shape:
                state[name].copy_(old)
            elif old.shape[0] == width:  # gate and up: units are rows
                state[name][:width] = old
            else:  # down: units are columns
                state[name].zero_()
                state[name][:, :width] = old
    return grown
