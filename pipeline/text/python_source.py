"""Python source found on this machine as a corpus: standard library and permissively licensed installed packages.

The split of a file depends on its package-relative path alone, so it is the same on every machine that has the file. Exact duplicates
are dropped everywhere; near duplicates are dropped from the held-out splits, because generated and copied modules (vendored code,
"modular" model files) would otherwise put training lines into the test set.
"""

from __future__ import annotations

import hashlib
import re
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Literal

Split = Literal["train", "calibration", "test"]
PERMISSIVE = re.compile(
    r"\b(MIT|BSD|Apache|ISC|PSF|Python Software Foundation|0BSD|Unlicense|HPND|MIT-CMU|Zlib)\b", re.IGNORECASE
)
COPYLEFT = re.compile(r"\b(A?GPL|LGPL|MPL|EPL|CDDL|GNU|Mozilla|Proprietary)\b", re.IGNORECASE)
HELD_OUT_PERCENT = 5
NEAR_DUPLICATE = 0.6


@dataclass(frozen=True)
class Document:
    """One source file: `path` is relative to its package root, `domain` groups documents for per-domain counts, empty: nobody says."""

    path: str
    text: str
    domain: str
    prompt: str | None = None  # of a chat: all that stands before the target's first turn, rendered
    whole: str | None = None  # of a chat: all of it, rendered

    @property
    def reading(self) -> str:
        """What a model reads of the document: a chat's every turn."""
        return self.text if self.whole is None else self.whole


def split_of(path: str) -> Split:
    """Split of a package-relative path: 90 % train, 5 % calibration, 5 % test, by its hash."""
    bucket = int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") % 100
    if bucket < HELD_OUT_PERCENT:
        return "test"
    return "calibration" if bucket < 2 * HELD_OUT_PERCENT else "train"


def is_permissive(distribution: metadata.Distribution) -> bool:
    """True if the package's own metadata names a permissive licence and no copyleft one."""
    info = distribution.metadata
    fields = [*(info.get_all("License-Expression") or []), *(info.get_all("Classifier") or [])]
    declared = " ".join(field for field in fields if field and not field.startswith("Programming"))
    for licence in info.get_all("License") or []:
        declared += " " + licence.strip().split("\n", 1)[0]
    return bool(PERMISSIVE.search(declared)) and not COPYLEFT.search(declared)


def _standard_library() -> Iterator[tuple[str, str, Path]]:
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in root.rglob("*.py"):
        relative = path.relative_to(root)
        if "site-packages" in relative.parts or "dist-packages" in relative.parts:
            continue
        tested = any(part in ("test", "tests", "idle_test") for part in relative.parts[:-1])
        yield relative.as_posix(), "stdlib tests" if tested else "stdlib", path


def _packages() -> Iterator[tuple[str, str, Path]]:
    for distribution in metadata.distributions():
        if not is_permissive(distribution):
            continue
        for file in distribution.files or ():
            if file.suffix == ".py" and ".." not in file.parts:
                yield file.as_posix(), "packages", Path(str(distribution.locate_file(file)))


def _budgeted(
    files: Iterable[tuple[str, str, Path]], package_bytes: int, total_bytes: int
) -> list[tuple[str, str, Path]]:
    """Choose files in hash order of their paths until each package's share and the total are full."""
    used: dict[str, int] = {}
    total, chosen = 0, []
    for name, domain, path in sorted(files, key=lambda row: hashlib.sha256(row[0].encode()).digest()):
        package = domain if domain.startswith("stdlib") else name.split("/", 1)[0]
        size = path.stat().st_size if path.is_file() else 0
        limit = total_bytes if domain.startswith("stdlib") else package_bytes
        if not size or used.get(package, 0) + size > limit or total + size > total_bytes:
            continue
        used[package] = used.get(package, 0) + size
        total += size
        chosen.append((name, domain, path))
    return chosen


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8")
    except (
        UnicodeDecodeError,
        OSError,
    ):  # a deliberately broken test file or a stale RECORD entry: not text, not corpus
        return None


def _lines(text: str) -> set[int]:
    return {hash(line) for raw in text.splitlines() if len(line := raw.strip()) > 10}


@lru_cache(maxsize=2)
def collect(package_bytes: int = 8_000_000, total_bytes: int = 96_000_000) -> dict[Split, list[Document]]:
    """All documents by split, in hash order of their paths; held-out splits hold no near copy of a training file.

    A held-out file is a near copy if at least 60 % of its distinct lines longer than ten characters occur in the training split.
    """
    files = [*_standard_library(), *_packages()]
    seen: set[bytes] = set()
    splits: dict[Split, list[Document]] = {"train": [], "calibration": [], "test": []}
    for name, domain, path in _budgeted(files, package_bytes, total_bytes):
        text = _read(path)
        if not text or not text.strip():
            continue
        digest = hashlib.sha256(text.encode()).digest()
        if digest in seen:
            continue
        seen.add(digest)
        splits[split_of(name)].append(Document(name, text, domain))
    known: set[int] = set()
    for document in splits["train"]:
        known |= _lines(document.text)
    for split in ("calibration", "test"):
        kept = []
        for document in splits[split]:
            lines = _lines(document.text)
            if lines and len(lines & known) < NEAR_DUPLICATE * len(lines):
                kept.append(document)
        splits[split] = kept
        known |= set().union(*(_lines(document.text) for document in kept)) if split == "calibration" else set()
    return splits


def documents(split: Split, package_bytes: int = 8_000_000, total_bytes: int = 96_000_000) -> Iterator[Document]:
    """Documents of one split. Raises ValueError naming the splits if `split` is unknown."""
    splits = collect(package_bytes, total_bytes)
    if split not in splits:
        raise ValueError(f"split must be one of {sorted(splits)}, got {split!r}.")
    return iter(splits[split])


def fingerprint(split: Split, package_bytes: int = 8_000_000, total_bytes: int = 96_000_000) -> str:
    """sha256 over the paths and contents of one split: the data hash recorded in provenance and stage keys."""
    digest = hashlib.sha256()
    for document in documents(split, package_bytes, total_bytes):
        digest.update(document.path.encode() + b"\0" + hashlib.sha256(document.text.encode()).digest())
    return digest.hexdigest()
