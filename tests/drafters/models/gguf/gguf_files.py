"""GGUF files of kilobytes, written byte by byte, so that a test can also write what no library would."""

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaForCausalLM

from tests.drafters.conftest import HIDDEN, VOCABULARY, make_model, make_tokenizer

UINT32, INT32, FLOAT32, STRING, ARRAY, UINT64 = 4, 5, 6, 8, 9, 10
F32, F16 = 0, 1
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
LAYER = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def plain(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return text(value)
    return struct.pack({UINT32: "<I", INT32: "<i", FLOAT32: "<f", UINT64: "<Q"}[kind], value)


def array(kind: int, values: Iterable[Any]) -> tuple[int, bytes]:
    items = list(values)
    return ARRAY, struct.pack("<IQ", kind, len(items)) + b"".join(plain(kind, value) for value in items)


def values(model: LlamaForCausalLM) -> dict[str, tuple[int, bytes]]:
    """The metadata of a tiny llama and of its tokenizer: key -> type, bytes."""
    config, tokenizer = model.config, make_tokenizer()
    numbers = {
        "block_count": config.num_hidden_layers, "context_length": config.max_position_embeddings,
        "embedding_length": HIDDEN, "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads, "attention.head_count_kv": config.num_key_value_heads,
        "rope.dimension_count": HIDDEN // config.num_attention_heads, "vocab_size": VOCABULARY,
    }  # fmt: skip
    tokens = tokenizer.convert_ids_to_tokens(range(VOCABULARY))
    return {
        "general.architecture": (STRING, text("llama")),
        "general.name": (STRING, text("tiny")),
        **{f"llama.{key}": (UINT32, plain(UINT32, value)) for key, value in numbers.items()},
        "llama.attention.layer_norm_rms_epsilon": (FLOAT32, plain(FLOAT32, config.rms_norm_eps)),
        "llama.rope.freq_base": (FLOAT32, plain(FLOAT32, 10_000.0)),
        "tokenizer.ggml.model": (STRING, text("gpt2")),
        "tokenizer.ggml.tokens": array(STRING, tokens),
        "tokenizer.ggml.token_type": array(INT32, [3 if token in tokens[:3] else 1 for token in tokens]),
        "tokenizer.ggml.merges": array(STRING, []),
        "tokenizer.ggml.bos_token_id": (UINT32, plain(UINT32, 1)),
        "tokenizer.ggml.eos_token_id": (UINT32, plain(UINT32, 2)),
        "tokenizer.ggml.unknown_token_id": (UINT32, plain(UINT32, 0)),
        "tokenizer.chat_template": (STRING, text(TEMPLATE)),
    }


def tensors(model: LlamaForCausalLM) -> dict[str, np.ndarray]:
    """The weights under llama.cpp's names, in torch's order of dimensions; of q and k its order of rows."""
    found = {}
    for name, weight in model.state_dict().items():
        module, data = name.removesuffix(".weight"), weight.float().numpy()
        if module in OUTER:
            found[f"{OUTER[module]}.weight"] = data
            continue
        _, _, layer, inner = module.split(".", 3)
        if LAYER[inner] in ("attn_q", "attn_k"):
            heads = model.config.num_attention_heads
            data = data.reshape(heads, 2, -1, HIDDEN).swapaxes(1, 2).reshape(data.shape)
        found[f"blk.{layer}.{LAYER[inner]}.weight"] = data
    return found


Stored = tuple[tuple[int, ...], int, bytes]  # lengths as the file has them, type, data


def stored(data: np.ndarray) -> Stored:
    return tuple(reversed(data.shape)), F32, data.astype("<f4").tobytes()


def write(
    path: Path, keys: Mapping[str, tuple[int, bytes]], held: Mapping[str, Stored], head: bytes | None = None
) -> Path:
    """A GGUF file; ``head``: its first 24 bytes, where they are to be others."""
    infos, data = b"", b""
    for name, (lengths, kind, content) in held.items():
        data += b"\0" * (-len(data) % 32)
        shape = struct.pack(f"<I{len(lengths)}Q", len(lengths), *lengths)
        infos += text(name) + shape + struct.pack("<IQ", kind, len(data))
        data += content
    first = struct.pack("<4sIQQ", b"GGUF", 3, len(held), len(keys)) if head is None else head
    header = (
        first + b"".join(text(key) + struct.pack("<I", kind) + value for key, (kind, value) in keys.items()) + infos
    )
    path.write_bytes(header + b"\0" * (-len(header) % 32) + data)
    return path


def tiny(path: Path, keys: Mapping[str, tuple[int, bytes] | None] | None = None, **held: Stored) -> Path:
    """The tiny llama of the other tests as a GGUF; ``keys`` replace its metadata, None leaves one out."""
    model = make_model()
    with torch.no_grad():
        every = {name: stored(data) for name, data in tensors(model).items()}
    chosen = {key: value for key, value in {**values(model), **(keys or {})}.items() if value is not None}
    return write(path, chosen, {**every, **held})
