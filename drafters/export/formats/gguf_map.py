"""llama.cpp: the kept ids as the tensor ``d2t`` of a GGUF file, absolute, as its EAGLE-3 graph indexes by them.

The container is written by hand because it is 60 bytes around one tensor. (GGUF version 3, ggml's docs/gguf.md.)
"""

import struct
from pathlib import Path

import torch
from torch import Tensor

from drafters.export.common import Exported, ExportRequest, Format
from drafters.export.kept_ids import target_ids

NAME = "d2t.gguf"
ALIGNMENT, I64, STRING = 32, 27, 8  # ggml's numbers of the types


def gguf(tensor: Tensor, name: str, architecture: str) -> bytes:
    """A little-endian GGUF file of one int64 tensor (k,)."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    head += _text("general.architecture") + struct.pack("<I", STRING) + _text(architecture)
    head += _text(name) + struct.pack("<IQIQ", 1, len(tensor), I64, 0)
    head += b"\0" * (-len(head) % ALIGNMENT)
    data = tensor.numpy().astype("<i8").tobytes()
    return head + data + b"\0" * (-len(data) % ALIGNMENT)


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _past_text(raw: bytes, place: int) -> int:
    return place + 8 + int(struct.unpack_from("<Q", raw, place)[0])


def read_ids(path: Path) -> Tensor:
    """The int64 tensor of a file that `gguf` wrote: its header is followed to the data, nothing is assumed of it."""
    raw = path.read_bytes()
    magic, version, tensors, pairs = struct.unpack_from("<4sIQQ", raw)
    if (magic, version, tensors, pairs) != (b"GGUF", 3, 1, 1):
        raise RuntimeError(f"{path.name}: expected a GGUF 3 file of one tensor and one key, got {raw[:24]!r}")
    place = _past_text(raw, 24) + 4  # the key; then the type of its value
    place = _past_text(raw, _past_text(raw, place))  # the value; then the tensor's name
    axes, length, kind, offset = struct.unpack_from("<IQIQ", raw, place)
    if (axes, kind) != (1, I64):
        raise RuntimeError(f"{path.name}: expected one axis of int64, got {axes} axes of type {kind}")
    start = -(-(place + 24) // ALIGNMENT) * ALIGNMENT + offset
    return torch.frombuffer(bytearray(raw[start : start + 8 * length]), dtype=torch.int64)


def _map(request: ExportRequest) -> Exported:
    ids = target_ids(request.package)
    path = request.out / NAME
    path.write_bytes(gguf(ids, "d2t", "eagle3"))
    if not torch.equal(read_ids(path), ids):
        raise RuntimeError(f"{NAME} does not give back the {len(ids)} ids that were written")
    return Exported(
        serve=f"merge DIR/{NAME} into the GGUF of an EAGLE-3 head, then: llama-server -m TARGET.gguf -md HEAD.gguf",
        limits=(
            "Absolute ids, which is what llama.cpp's EAGLE-3 graph uses as row numbers; other readers want offsets.",
            "The map only: the head is yours to train and convert.",
        ),
        checked=f"{len(ids):,} ids in an int64 tensor d2t",
    )


REFUSED = (
    "llama.cpp refuses a drafter whose vocabulary differs from the target's by more than 128 tokens or in any token's "
    "text, so a pruned standalone GGUF cannot draft"
)
FORMAT = Format(
    "gguf_map",
    {"map": _map},
    {
        "full": f"{REFUSED}; use to=transformers form=padded and llama.cpp's convert_hf_to_gguf.py",
        "padded": "a GGUF of weights is made by llama.cpp's convert_hf_to_gguf.py from to=transformers form=padded",
    },
)
