"""The only module that opens files of packages and model folders that others wrote.

Order of trust: where the file lies, how big it is, whether it parses, what its keys are; only then tensors. There is no
fallback: no pickle, no YAML, no ``torch.load``, and a check that fails never leads to another, laxer way of loading.
Nothing here runs code named by a file. (Rules: safetensors' own README, and the class of CVE-2026-4372.)
"""

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from drafters.package_error import PackageError

MAX_MANIFEST_BYTES = 4 << 20
MAX_JSON_BYTES = 1 << 20
MAX_TOKENIZER_BYTES = 128 << 20
MAX_HEADER_BYTES = 10_000_000
MAX_DEPTH = 64
HASHED_AT_ONCE = 1 << 20  # numbers of a tensor
DTYPE_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "F8_E8M0": 1, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
DAMAGED = "The file is damaged or was made by another tool: build or download it again."
UNSAFE = "Do not use this folder: a well-formed one never holds this."


@dataclass(frozen=True)
class TensorInfo:
    """What a safetensors header says of one tensor: ``dtype`` as the format spells it ("F32"), ``shape``."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """The number of elements, the product of `shape`."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size of the tensor's data in bytes."""
        return self.numel * DTYPE_BYTES[self.dtype]


def locate(folder: Path, name: str, root: Path | None = None) -> Path:
    """Path of ``folder/name`` after proving that it is a regular file below ``root`` (default: ``folder``).

    ``root`` is wider than ``folder`` only for the Hub's cache, where a snapshot's files are links to blobs beside it.

    Raises:
        PackageError: the name leaves the folder, a link leaves ``root``, or it is missing or no regular file.
    """
    parts = name.split("/")
    if not name or "\\" in name or "\0" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
        raise PackageError(name or "(empty)", "name", "a relative file name inside the folder", name, UNSAFE)
    path = folder / name
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise PackageError(name, "file", "a readable file", "no such file", DAMAGED) from None
    if not real.is_relative_to((root or folder).resolve()):
        raise PackageError(name, "link", "a file inside the folder", "a link that leaves it", UNSAFE)
    # A FIFO or device would block or feed endless bytes: only regular files are opened.
    if not stat.S_ISREG(real.stat().st_mode):
        raise PackageError(name, "type", "a regular file", "something else", UNSAFE)
    return path


def list_files(folder: Path, root: Path | None = None) -> list[str]:
    """Sorted names, relative with ``/``, of every file below ``folder``; each one passed `locate`.

    Raises:
        PackageError: a link to a directory, or what `locate` refuses.
    """
    names = []
    for parent, directories, files in os.walk(folder, followlinks=False):
        base = Path(parent).relative_to(folder)
        for directory in directories:
            if (Path(parent) / directory).is_symlink():
                raise PackageError((base / directory).as_posix(), "link", "a directory", "a link", UNSAFE)
        names += [(base / file).as_posix() for file in files]
    for name in names:
        locate(folder, name, root)
    return sorted(names)


def read_text(folder: Path, name: str, cap: int, root: Path | None = None) -> str:
    """UTF-8 text of a file of at most ``cap`` bytes.

    Raises:
        PackageError: too big, or not UTF-8.
    """
    with locate(folder, name, root).open("rb") as file:
        data = file.read(cap + 1)  # one read, bounded: a size asked beforehand could change before the read
    if len(data) > cap:
        raise PackageError(name, "size", f"at most {cap:,} bytes", f"more than {cap:,} bytes", UNSAFE)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PackageError(name, "encoding", "UTF-8", str(error), DAMAGED) from None


def read_json(folder: Path, name: str, cap: int = MAX_JSON_BYTES, root: Path | None = None) -> dict[str, Any]:
    """The JSON object in a file: no duplicate keys, no NaN or Infinity, bounded size and depth.

    Raises:
        PackageError: names the file and what is wrong with it.
    """
    return _parse_object(read_text(folder, name, cap, root), name, "JSON")


def read_header(folder: Path, name: str, root: Path | None = None) -> dict[str, TensorInfo]:
    """Tensor names of a safetensors file, checked against the file's size before any tensor is touched.

    Raises:
        PackageError: header over 10 MB, unknown dtype, holes or overlaps, or sizes that do not sum to the file's.
    """
    path = locate(folder, name, root)
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > size - 8:
            raise PackageError(name, "header", f"a header inside the {size:,} bytes of the file", length, DAMAGED)
        if length > MAX_HEADER_BYTES:
            raise PackageError(name, "header", f"at most {MAX_HEADER_BYTES:,} bytes", length, UNSAFE)
        text = file.read(length)
    try:
        header = _parse_object(text.decode("utf-8"), name, "header")
    except UnicodeDecodeError as error:
        raise PackageError(name, "header", "UTF-8", str(error), DAMAGED) from None
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise PackageError(name, "__metadata__", "an object of strings", metadata, DAMAGED)
    return _check_layout(name, header, size - 8 - length)


def _check_layout(name: str, header: dict[str, Any], data_bytes: int) -> dict[str, TensorInfo]:
    infos, spans = {}, []
    for key, entry in header.items():
        if not key:
            raise PackageError(name, "header", "a name for every tensor", "an empty name", DAMAGED)
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise PackageError(name, key, "dtype, shape and data_offsets", entry, DAMAGED)
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
            raise PackageError(name, f"{key}.dtype", f"one of {', '.join(DTYPE_BYTES)}", dtype, DAMAGED)
        if not _naturals(shape) or len(shape) > 8:
            raise PackageError(name, f"{key}.shape", "at most 8 non-negative integers", shape, DAMAGED)
        if not _naturals(offsets) or len(offsets) != 2:
            raise PackageError(name, f"{key}.data_offsets", "two non-negative integers", offsets, DAMAGED)
        infos[key] = TensorInfo(dtype, tuple(shape))
        if offsets[1] - offsets[0] != infos[key].bytes:
            raise PackageError(name, f"{key}.data_offsets", f"{infos[key].bytes:,} bytes", offsets, DAMAGED)
        spans.append((offsets[0], offsets[1], key))
    end = 0
    for start, stop, key in sorted(spans):
        if start != end:
            expected = f"to begin at {end:,} (no holes, no overlaps)"
            raise PackageError(name, f"{key}.data_offsets", expected, start, DAMAGED)
        end = stop
    if end != data_bytes:
        raise PackageError(name, "size", f"{end:,} bytes of tensors", f"{data_bytes:,}", DAMAGED)
    return infos


def read_tensors(
    folder: Path,
    name: str,
    expected: Iterable[str] | None = None,
    optional: Iterable[str] = (),
    root: Path | None = None,
) -> dict[str, Tensor]:
    """CPU tensors of a safetensors file whose header passed `read_header`; floats are all finite.

    Args:
        expected: names the file must hold; None accepts any names (the caller then compares them with a model's).
        optional: further names it may hold.

    Raises:
        PackageError: a name too many or too few, or NaN or infinity (the format itself checks neither).
    """
    names = set(read_header(folder, name, root))
    if expected is not None:
        required, allowed = set(expected), {*expected, *optional}
        if missing := sorted(required - names):
            raise PackageError(name, missing[0], "this tensor", "none", DAMAGED)
        if unknown := sorted(names - allowed):
            listed = f"only the tensors {', '.join(sorted(allowed))}"
            raise PackageError(name, unknown[0], listed, "another one", UNSAFE)
    tensors = load_file(str(locate(folder, name, root)), device="cpu")
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not _all_finite(tensor):
            raise PackageError(name, key, "finite numbers", "NaN or infinity", DAMAGED)
    return tensors


def tensor_sha256(folder: Path, name: str, tensor: str, root: Path | None = None) -> str:
    """SHA-256 in hex of the bytes of one tensor, (n, ...), of a checked safetensors file, read in parts.

    Raises:
        PackageError: as `locate` does.
    """
    digest = hashlib.sha256()
    with safe_open(str(locate(folder, name, root)), "pt", device="cpu") as file:
        part = file.get_slice(tensor)
        rows, *rest = part.get_shape()
        step = max(1, HASHED_AT_ONCE // max(1, math.prod(rest)))
        for start in range(0, rows, step):
            digest.update(part[start : start + step].contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def _all_finite(tensor: Tensor) -> bool:
    if tensor.element_size() == 1:
        tensor = tensor.float()  # isfinite has no kernel for the 8-bit floats
    return bool(torch.isfinite(tensor).all())


def _naturals(value: object) -> bool:
    if not isinstance(value, list):
        return False
    return all(isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 1 << 48 for item in value)


def _parse_object(text: str, name: str, field: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):  # two readers could each believe another one of the two values
            keys = [key for key, _ in pairs]
            raise PackageError(name, next(key for key in keys if keys.count(key) > 1), "one value", "two", UNSAFE)
        return result

    def refuse(constant: str) -> None:
        raise PackageError(name, field, "finite numbers", constant, DAMAGED)

    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except (
        ValueError,
        RecursionError,
    ) as error:  # json refuses integers of more than 4,300 digits with a plain ValueError
        raise PackageError(name, field, "valid JSON", str(error), DAMAGED) from None
    if not isinstance(value, dict):
        raise PackageError(name, field, "an object", type(value).__name__, DAMAGED)
    if _depth(value) > MAX_DEPTH:
        raise PackageError(name, field, f"at most {MAX_DEPTH} nested levels", "more", UNSAFE)
    return value


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level:
        depth += 1
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
    return depth
