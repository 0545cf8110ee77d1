"""The header of a GGUF file, walked before any library that converts it sees the file.

Those libraries take the file's own counts and lengths for true: one of 2^60 makes them loop or allocate without end. Here every
length is compared with the bytes that are left before it is followed, and every tensor must lie inside the file. Little-endian, version
2 or 3, as llama.cpp writes it (ggml's docs/gguf.md).
"""

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from drafters.io.model_json import MAX_LAYERS, MAX_VOCABULARY, check_template
from drafters.io.safe_load import DAMAGED, MAX_TOKENIZER_BYTES, UNSAFE, locate
from drafters.package_error import PackageError

MAGIC, VERSIONS = b"GGUF", (2, 3)
MAX_KEYS, MAX_TENSORS, MAX_DIMENSIONS, MAX_NAME_BYTES = 1 << 16, 1 << 16, 4, 1 << 12
STRING, ARRAY = 8, 9
# Type id of a plain value -> its struct format.
PLAIN = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
# Id of a tensor type -> its name, elements of a block, bytes of a block (ggml.h, ggml-common.h).
TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2),
    26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip
# Sizes by which a model is built, behind the architecture's name; `model_json` has the same for config.json.
BOUNDS = {
    "block_count": 512,
    "context_length": 1 << 28,
    "embedding_length": 1 << 17,
    "feed_forward_length": 1 << 20,
    "expert_feed_forward_length": 1 << 20,
    "attention.head_count": 1 << 12,
    "attention.head_count_kv": 1 << 12,
    "attention.key_length": 1 << 17,
    "attention.value_length": 1 << 17,
    "rope.dimension_count": 1 << 17,
    "expert_count": 1 << 12,
    "vocab_size": MAX_VOCABULARY,
}
TOKENS = "tokenizer.ggml.tokens"
SPLIT = "split.count"

Value = bool | int | float | str | list[bool | int | float | str]


@dataclass(frozen=True)
class GgufTensor:
    """One tensor of a GGUF file: ``type`` as ggml calls it ("Q4_1"), the number of its elements, its bytes in the file."""

    type: str
    numel: int
    bytes: int


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says of itself; of arrays that are longer than `MAX_LAYERS` only the length is kept, as an int."""

    values: Mapping[str, Value]
    tensors: Mapping[str, GgufTensor]

    @property
    def architecture(self) -> str:
        """Return the family as llama.cpp names it, e.g. "llama"."""
        return str(self.values["general.architecture"])

    @property
    def types(self) -> list[str]:
        """Return the types of its tensors, sorted."""
        return sorted({tensor.type for tensor in self.tensors.values()})

    @property
    def numel(self) -> int:
        """Return how many numbers its tensors hold."""
        return sum(tensor.numel for tensor in self.tensors.values())


def read_gguf_header(path: Path) -> GgufHeader:
    """Return the header of a GGUF file, every length and place in it checked; read no tensor.

    Raises:
        PackageError: not a GGUF file, cut off, a length or size out of range, a chat template that names files, one part of
            several, or a file without a tokenizer.
    """
    with locate(path.parent, path.name, path.resolve().parent).open("rb") as stream:
        walk = _Walk(stream, path.name, os.fstat(stream.fileno()).st_size)
        magic, version, tensors, keys = walk.plain("<4sIQQ", "header")
        if magic != MAGIC or version not in VERSIONS:
            fix = "Give a GGUF file as llama.cpp writes it (little-endian, version 2 or 3), or a model folder."
            got = f"{magic!r}, version {version}"
            raise PackageError(path.name, "header", f"{MAGIC!r}, version 2 or 3", got, fix)
        values = _values(walk, walk.bounded(keys, MAX_KEYS, "metadata_kv_count"))
        found = _tensors(walk, walk.bounded(tensors, MAX_TENSORS, "tensor_count"), values)
    header = GgufHeader(values, found)
    _check_values(path.name, header)
    return header


@dataclass
class _Walk:
    """A stream that is read from its beginning to its end, and never beyond what is there."""

    stream: BinaryIO
    name: str
    size: int
    at: int = 0

    def take(self, count: int, field: str) -> bytes:
        limit = min(self.size, MAX_TOKENIZER_BYTES)
        if count > limit - self.at:
            raise PackageError(self.name, field, f"at most {limit - self.at:,} further bytes", f"{count:,}", DAMAGED)
        self.at += count
        if len(data := self.stream.read(count)) != count:
            raise PackageError(self.name, field, f"{count:,} bytes", f"{len(data):,}", DAMAGED)
        return data

    def plain(self, layout: str, field: str) -> tuple:
        return struct.unpack(layout, self.take(struct.calcsize(layout), field))

    def text(self, field: str, most: int = MAX_TOKENIZER_BYTES) -> str:
        (length,) = self.plain("<Q", field)
        data = self.take(self.bounded(length, most, field), field)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise PackageError(self.name, field, "UTF-8", str(error), DAMAGED) from None

    def value(self, kind: int, field: str) -> Value:
        if kind in PLAIN:
            return self.plain(f"<{PLAIN[kind]}", field)[0]
        if kind == STRING:
            return self.text(field)
        if kind != ARRAY:
            raise PackageError(self.name, field, "a type of GGUF metadata", f"type {kind}", DAMAGED)
        inner, count = self.plain("<IQ", field)
        if inner in PLAIN:
            width = struct.calcsize(PLAIN[inner])
            if count > (self.size - self.at) // width:
                raise PackageError(self.name, field, "an array inside the file", f"{count:,} elements", DAMAGED)
            data = self.take(count * width, field)
            return list(struct.unpack(f"<{count}{PLAIN[inner]}", data)) if count <= MAX_LAYERS else count
        if inner != STRING:
            raise PackageError(self.name, field, "an array of plain values or texts", f"of type {inner}", DAMAGED)
        texts = [self.text(field) for _ in range(self.bounded(count, (self.size - self.at) // 8, field))]
        return list(texts) if count <= MAX_LAYERS else count

    def bounded(self, count: int, most: int, field: str) -> int:
        if count > most:
            raise PackageError(self.name, field, f"at most {most:,}", f"{count:,}", UNSAFE)
        return count


def _values(walk: _Walk, count: int) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for _ in range(count):
        key = walk.text("key", MAX_NAME_BYTES)
        if key in values:  # two readers could each believe another one of the two
            raise PackageError(walk.name, key, "one value", "two", UNSAFE)
        (kind,) = walk.plain("<I", key)
        values[key] = walk.value(kind, key)
    return values


def _tensors(walk: _Walk, count: int, values: Mapping[str, Value]) -> dict[str, GgufTensor]:
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1) or alignment > 1 << 16:
        raise PackageError(walk.name, "general.alignment", "a power of two up to 65,536", alignment, DAMAGED)
    found: dict[str, GgufTensor] = {}
    spans: list[tuple[int, int, str]] = []
    for _ in range(count):
        name = walk.text("tensor name", MAX_NAME_BYTES)
        if name in found:
            raise PackageError(walk.name, name, "one tensor", "two of this name", UNSAFE)
        dimensions = walk.bounded(walk.plain("<I", name)[0], MAX_DIMENSIONS, name)
        shape = walk.plain(f"<{dimensions}Q", name)
        kind, offset = walk.plain("<IQ", name)
        found[name] = _tensor(walk.name, name, shape, kind)
        if offset % alignment:
            raise PackageError(walk.name, f"{name}.offset", f"a multiple of {alignment}", offset, DAMAGED)
        spans.append((offset, offset + found[name].bytes, name))
    begin = -(-walk.at // alignment) * alignment
    end = 0
    for start, stop, name in sorted(spans):
        if start < end or begin + stop > walk.size:
            expected = f"data between byte {end:,} and {walk.size - begin:,}, no overlaps"
            raise PackageError(walk.name, f"{name}.offset", expected, f"{start:,} to {stop:,}", DAMAGED)
        end = stop
    return found


def _tensor(file: str, name: str, shape: tuple[int, ...], kind: int) -> GgufTensor:
    if kind not in TYPES:
        fix = "Get this model in another quantisation (Q4_K_M, Q8_0, F16), or as a folder with safetensors."
        raise PackageError(file, f"{name}.type", "a type that is known here", f"type {kind}", fix)
    label, elements, size = TYPES[kind]
    if not all(0 < length < 1 << 48 for length in shape) or (shape and shape[0] % elements):
        expected = f"lengths from 1, the first a multiple of {elements}"
        raise PackageError(file, f"{name}.shape", expected, list(shape), DAMAGED)
    numel = math.prod(shape)
    return GgufTensor(label, numel, numel // elements * size)


def _check_values(file: str, header: GgufHeader) -> None:
    """The sizes that a model is built by, its templates, and what it cannot do without. Raises PackageError."""
    values = header.values
    if not isinstance(kind := values.get("general.architecture"), str) or not kind.isascii() or len(kind) > 64:
        raise PackageError(file, "general.architecture", "the name of a model family", kind, DAMAGED)
    if (parts := values.get(SPLIT, 1)) not in (0, 1):
        fix = "Join them: llama-gguf-split --merge FIRST_PART WHOLE.gguf"
        raise PackageError(file, SPLIT, "a whole model", f"one of {parts} parts", fix)
    for key, most in BOUNDS.items():
        sizes = values.get(f"{kind}.{key}", 1)
        for size in sizes if isinstance(sizes, list) else [sizes]:
            if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= most:
                raise PackageError(file, f"{kind}.{key}", f"integers from 0 to {most:,}", size, UNSAFE)
    tokens = values.get(TOKENS, 0)
    count = len(tokens) if isinstance(tokens, list) else tokens
    if not count or "tokenizer.ggml.model" not in values:
        fix = "Get a GGUF with its tokenizer, or give the model's folder with tokenizer.json."
        raise PackageError(file, TOKENS, "a tokenizer inside the file", "none", fix)
    if not isinstance(count, int) or count > MAX_VOCABULARY:
        raise PackageError(file, TOKENS, f"at most {MAX_VOCABULARY:,} texts", count, UNSAFE)
    for key, value in values.items():
        if key.startswith("tokenizer.chat_template"):
            check_template(value, file, key)
