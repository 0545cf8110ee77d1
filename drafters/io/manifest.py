"""Manifests: what a directory holds, how it was made, and the proof that it is complete.

A directory made by Drafters exists only if its ``manifest.json`` is valid: the manifest is written last, after every
other file has reached the disk, and names each file with its size and SHA-256. Standard library only, so that
anything may read one.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from drafters.errors import DraftersError
from drafters.io.atomic import fsync_directory, write_atomic
from drafters.io.paths import REPOSITORY

NAME = "manifest.json"
FORMAT_VERSION = 1
SIZE_LIMIT = 16 * 2**20  # bytes; a manifest is read whole into memory, so a hostile one must not be able to fill it
RECORDED = ("drafters", "torch", "transformers", "tokenizers", "safetensors", "numpy", "datasets", "lightning")
RACY = 100_000_000  # nanoseconds
_REQUIRED = {"kind": str, "key": str, "config": dict, "inputs": dict, "files": dict, "versions": dict}
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ManifestError(DraftersError):
    """A manifest is absent, malformed, too new, or does not match the files beside it."""


@dataclass(frozen=True)
class Manifest:
    """What one ``manifest.json`` states: what a directory holds, from which inputs and code it was made."""

    kind: str  # the stage, or the type of artifact, that the directory is
    key: str  # content key of the run that made it
    config: dict[str, Any]
    inputs: dict[str, str]  # role -> key of the directory read in that role
    files: dict[str, dict[str, Any]]  # posix path below the directory -> {"sha256": hex, "size": bytes}
    versions: dict[str, str]
    code: str | None = None  # git commit, with "+dirty" where tracked files differed from it
    extra: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @property
    def content(self) -> str:
        """Which files these are, whoever made them, when and where: see `content_hash`."""
        return content_hash(self.files)


def content_hash(files: Mapping[str, Mapping[str, Any]]) -> str:
    """SHA-256 in hex over the names of ``files`` and their own SHA-256, as a manifest lists them."""
    lines = "".join(f"{name} {entry.get('sha256')}\n" for name, entry in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def write_manifest(
    directory: str | os.PathLike[str],
    *,
    kind: str,
    key: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    files: Iterable[str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Manifest:
    """Make ``directory`` durable and write its manifest as the last act.

    Every named file (all regular files below ``directory`` when ``files`` is None) is hashed and fsynced, then every
    folder, and only then does the manifest appear, by an atomic rename. Raises ManifestError for a missing file, a
    symbolic link, or a file in ``files`` that lies outside ``directory``.
    """
    root = Path(directory)
    names = sorted(files) if files is not None else list_files(root)
    manifest = Manifest(
        kind=kind,
        key=key,
        config=dict(config),
        inputs=dict(inputs),
        files={name: _seal(root, name) for name in names},
        versions=versions(),
        code=git_revision(),
        extra=dict(extra or {}),
    )
    for folder in sorted({root, *((root / name).parent for name in names)}):
        fsync_directory(folder)
    text = json.dumps(_as_json(manifest), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomic(root / NAME, text.encode())
    fsync_directory(root)
    return manifest


def read_manifest(directory: str | os.PathLike[str], verify: bool = True) -> Manifest:
    """Read the manifest of ``directory``; with ``verify`` also compare every file's size and SHA-256.

    Sizes are compared before anything is hashed, so that truncation is found at once. Raises ManifestError naming the
    file, what was expected and what was found.
    """
    root = Path(directory)
    manifest = _parse(root / NAME)
    for name, entry in manifest.files.items():
        path = _inside(root, name)
        if path.is_symlink() or not path.is_file():
            raise ManifestError(
                f"{path}: listed in {NAME} but is not a regular file here; make or download {root} again"
            )
        if (size := path.stat().st_size) != entry["size"]:
            raise ManifestError(f"{path}: expected {entry['size']} bytes, got {size}; make or download {root} again")
    if verify:
        with ThreadPoolExecutor() as pool:  # hashing releases the interpreter lock
            digests = pool.map(lambda name: file_sha256(root / name), manifest.files)
        for (name, entry), digest in zip(manifest.files.items(), digests, strict=True):
            if digest != entry["sha256"]:
                raise ManifestError(
                    f"{root / name}: expected sha256 {entry['sha256']}, got {digest}; make or download {root} again"
                )
    return manifest


def list_files(root: Path) -> list[str]:
    """Posix paths of all files below ``root`` but the manifest itself, sorted. Raises ManifestError for a symbolic
    link."""
    names = []
    for path in root.rglob("*"):
        if path.is_symlink():
            raise ManifestError(f"{path}: a symbolic link cannot be part of {root}; expected a regular file")
        if path.is_file() and path != root / NAME:
            names.append(path.relative_to(root).as_posix())
    return sorted(names)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, remembered within this process while its size, times and inode stay the same."""
    status = os.stat(path)
    # A file this fresh may change once more within the same tick of the file system's clock.
    fresh = time.time_ns() - status.st_ctime_ns < RACY
    digest = _digest.__wrapped__ if fresh else _digest
    return digest(os.path.abspath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


@functools.lru_cache(maxsize=65536)
def _digest(path: str, size: int, mtime_ns: int, ctime_ns: int, inode: int) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python, the platform and the packages whose change may change an output. Never host names or
    paths."""
    found = {"python": platform.python_version(), "platform": f"{platform.system()}-{platform.machine()}"}
    for name in RECORDED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def git_revision() -> str | None:
    """Commit of the clone this file runs from, "+dirty" if tracked files differ; None when it is not run from a
    clone."""
    if not (REPOSITORY / ".git").exists():
        return None
    try:
        git = functools.partial(subprocess.run, cwd=REPOSITORY, capture_output=True, text=True, timeout=10, check=True)
        commit = git(["git", "rev-parse", "HEAD"]).stdout.strip()
        dirty = git(["git", "status", "--porcelain", "--untracked-files=no"]).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+dirty" if dirty else commit


def _seal(root: Path, name: str) -> dict[str, Any]:
    """Flush one file to the disk and describe it."""
    path = _inside(root, name)
    if path.is_symlink() or not path.is_file():
        raise ManifestError(f"{path}: expected a regular file to put into {NAME}")
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())
    return {"sha256": file_sha256(path), "size": path.stat().st_size}


def _inside(root: Path, name: str) -> Path:
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or name == NAME:
        raise ManifestError(f"{root / NAME}: file name {name!r} is not a path inside the directory")
    return root / pure


def _as_json(manifest: Manifest) -> dict[str, Any]:
    return dict(vars(manifest))


def _parse(path: Path) -> Manifest:
    if not path.is_file() or path.is_symlink():
        raise ManifestError(f"{path}: no manifest, so {path.parent} is incomplete or was not made by Drafters")
    if (size := path.stat().st_size) > SIZE_LIMIT:
        raise ManifestError(f"{path}: expected at most {SIZE_LIMIT} bytes, got {size}")
    try:
        data = json.loads(path.read_bytes())
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: expected JSON, got {error}") from error
    if not isinstance(data, dict):
        raise ManifestError(f"{path}: expected a JSON object, got {type(data).__name__}")
    version = data.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ManifestError(f"{path}: format_version: expected a whole number from 1, got {version!r}")
    if version > FORMAT_VERSION:
        raise ManifestError(
            f"{path}: format_version {version}, this Drafters reads up to {FORMAT_VERSION}: upgrade Drafters"
        )
    return _checked(path, data)


def _checked(path: Path, data: dict[str, Any]) -> Manifest:
    for name, kind in _REQUIRED.items():
        if not isinstance(data.get(name), kind):
            raise ManifestError(f"{path}: {name}: expected {kind.__name__}, got {type(data.get(name)).__name__}")
    for name, entry in data["files"].items():
        _inside(path.parent, name)
        good = isinstance(entry, dict) and type(entry.get("size")) is int and isinstance(entry.get("sha256"), str)
        if not good or entry["size"] < 0 or not _SHA256.fullmatch(entry["sha256"]):
            raise ManifestError(
                f"{path}: files[{name!r}]: expected {{sha256: 64 hex digits, size: bytes}}, got {entry!r}"
            )
    fields = {name: data[name] for name in Manifest.__dataclass_fields__ if name in data}
    return Manifest(**fields)
