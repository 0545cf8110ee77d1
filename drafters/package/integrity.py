"""The first thing done with a package: its manifest, then every file's place, size and SHA-256. Nothing is parsed
before."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from drafters.io.borrowed_json import BORROWED, FILES
from drafters.io.hub import Source
from drafters.io.manifest import FORMAT_VERSION, NAME, Manifest
from drafters.io.safe_load import DAMAGED, MAX_MANIFEST_BYTES, UNSAFE, list_files, locate, read_json
from drafters.package_error import PackageError

REQUIRED = ("LICENSE", "config.json", "drafters.json", "model.safetensors", "tokenizer.json", "vocab.safetensors")
OPTIONAL = (
    "NOTICE",
    "added_tokens.json",
    "affinity.safetensors",
    BORROWED,
    "chat_template.jinja",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "stop/config.json",
    "stop/model.safetensors",
    "tail.safetensors",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)
# What a published repository holds beside the package: it has no place in the manifest. Only the recommendation is ever
# opened, as advice that is checked on its own (`drafters.package.recommendation.recommended_json`).
RECOMMENDED = "recommended.json"
IGNORED = re.compile(
    r"\.gitattributes|README\.md|(certificate|draft_token_map|recommended)\.json|(eval|\.eval_results|\.cache)/.*"
)
PATTERNS = [NAME, *REQUIRED, *OPTIONAL, RECOMMENDED]  # what is downloaded from the Hub
NO_PACKAGE = (
    "Give the directory that `python -m pipeline stage=package` wrote; of a model folder it makes one: "
    "pair=local pair.target=DIR pair.drafter=DIR."
)
_SHA256 = re.compile(r"[0-9a-f]{64}")


def verify(source: Source) -> Manifest:
    """The manifest of a package whose files are exactly those it lists, byte for byte.

    Raises:
        PackageError: no or a malformed manifest, a newer format, another kind of directory, or a file that is missing,
            additional, misplaced, of another size or of another content.
    """
    if not (source.folder / NAME).exists():
        raise PackageError(NAME, "file", f"a package at {source.folder}", "a folder without it", NO_PACKAGE)
    data = read_json(source.folder, NAME, MAX_MANIFEST_BYTES, source.root)
    version = data.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise PackageError(NAME, "format_version", "a whole number from 1", version, DAMAGED)
    if version > FORMAT_VERSION:
        fix = "Upgrade drafters: pip install --upgrade drafters."
        raise PackageError(NAME, "format_version", f"at most {FORMAT_VERSION}", version, fix)
    if data.get("kind") != "package":
        raise PackageError(NAME, "kind", "package", data.get("kind"), NO_PACKAGE)
    manifest = _manifest(data)
    _check_names(source, manifest.files)
    for name, entry in manifest.files.items():
        path = locate(source.folder, name, source.root)
        if (size := path.stat().st_size) != entry["size"]:
            raise PackageError(name, "size", f"{entry['size']:,} bytes", f"{size:,}", DAMAGED)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != entry["sha256"]:
            raise PackageError(name, "sha256", entry["sha256"], digest, DAMAGED)
    return manifest


def _manifest(data: dict[str, Any]) -> Manifest:
    fields = {"key": str, "config": dict, "inputs": dict, "files": dict, "versions": dict}
    for field, kind in fields.items():
        if not isinstance(data.get(field), kind):
            raise PackageError(NAME, field, kind.__name__, type(data.get(field)).__name__, DAMAGED)
    for name, entry in data["files"].items():
        size = entry.get("size") if isinstance(entry, dict) else None
        digest = entry.get("sha256") if isinstance(entry, dict) else None
        good = isinstance(size, int) and not isinstance(size, bool) and size >= 0
        if not good or not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise PackageError(NAME, f"files.{name}", "a size in bytes and a SHA-256 in hex", entry, DAMAGED)
    known = Manifest.__dataclass_fields__
    return Manifest(**{field: value for field, value in data.items() if field in known})


def _check_names(source: Source, files: Mapping[str, object]) -> None:
    allowed = {*REQUIRED, *OPTIONAL}
    if unknown := sorted(set(files) - allowed):
        raise PackageError(NAME, f"files.{unknown[0]}", "only files of the package format", "another file", UNSAFE)
    if missing := sorted(set(REQUIRED) - set(files) - set(FILES if BORROWED in files else ())):
        raise PackageError(NAME, f"files.{missing[0]}", "this file", "none", DAMAGED)
    if ("stop/config.json" in files) != ("stop/model.safetensors" in files):
        raise PackageError(NAME, "files.stop", "config.json and model.safetensors together", "one of them", DAMAGED)
    present = {name for name in list_files(source.folder, source.root) if name != NAME and not IGNORED.fullmatch(name)}
    if extra := sorted(present - set(files)):
        raise PackageError(extra[0], "file", f"only files that {NAME} lists", "a file it does not list", UNSAFE)
