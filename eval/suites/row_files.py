"""Rows of local files: jsonl, json, csv, tsv and parquet, compressed or not, one file, a folder or a glob."""

from __future__ import annotations

import bz2
import csv
import glob
import gzip
import io
import json
import lzma
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from eval.suites.dataset_rows import DataError, Row

ROWS = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv")
PACKED = (".gz", ".bz2", ".xz", ".zst")
DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)  # what the readers of packed files raise in their midst
TABLES = ("data", "rows", "examples", "instances", "train")  # keys of an object below which rows lie
NO_CONTENT = ("readme", "licence", "license", "notice")  # files about a data set, in whose folder they lie


@dataclass
class Skipped:
    """Rows that could not be read: how many were passed over, and why the first."""

    count: int = 0
    first: str = ""

    def add(self, what: str) -> None:
        """Count one more broken row, and keep what the first one was."""
        self.count += 1
        self.first = self.first or what

    @property
    def line(self) -> str:
        """The one line that tells of them, empty if there are none."""
        return f"warning: {self.count:,} broken rows were left out, the first: {self.first}" if self.count else ""


class Strict(Skipped):
    """Takes no broken row: the first one ends the reading."""

    def add(self, what: str) -> None:
        """Raise DataError with what the row is."""
        raise DataError(what)


def is_glob(path: str) -> bool:
    """Whether a path is a pattern of several files."""
    return glob.has_magic(path) and not Path(path).expanduser().exists()


def suffix_of(file: Path) -> str:
    """What a file is by its name, without what packed it: ``.jsonl`` of ``a.jsonl.gz``."""
    return Path(file.name.removesuffix(file.suffix)).suffix if file.suffix in PACKED else file.suffix


def data_files(path: str | Path, suffixes: tuple[str, ...], option: str) -> list[Path]:
    """The file itself, or what a folder or glob holds of these suffixes, packed or not, sorted by name.

    Hidden files are left out, and of several files those about the data set (README, licence).

    Raises:
        DataError: no such file or folder, or nothing with such a suffix.
    """
    root, kinds = Path(path).expanduser(), f"{', '.join(suffixes)} (or these with {', '.join(PACKED)})"
    if root.is_file():
        if suffix_of(root) in suffixes:
            return [root]
        raise DataError(f"{option}={path}: expected a file ending in one of {kinds}, got {root.name!r}")
    if root.is_dir():
        inside = [file for file in root.rglob("*") if not any(p.startswith(".") for p in file.relative_to(root).parts)]
    elif is_glob(str(path)):
        inside = [Path(name) for name in glob.glob(str(root), recursive=True)]
    else:
        raise DataError(f"{option}={path}: no such file or folder; give one with {option}=FILE_OR_FOLDER")
    files = sorted(file for file in inside if file.is_file() and suffix_of(file) in suffixes)
    files = [file for file in files if not file.name.lower().startswith(NO_CONTENT)]
    if not files:
        what = "folder" if root.is_dir() else "pattern"
        raise DataError(f"{option}={path}: the {what} holds no file ending in one of {kinds}")
    return files


def opened(file: Path) -> IO[str]:
    """A file's text, unpacked; bytes that are no UTF-8 become U+FFFD. Raises DataError for .zst without its library."""
    how: dict[str, Any] = {"encoding": "utf-8-sig", "errors": "replace", "newline": ""}
    if file.suffix == ".zst":
        return _zstd(file, how)
    openers: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    stream: IO[str] = openers.get(file.suffix, open)(file, "rt", **how)
    return stream


def _zstd(file: Path, how: dict[str, Any]) -> IO[str]:
    try:
        import zstandard
    except ImportError as error:
        raise DataError(f"{file}: .zst needs a library: pip install zstandard, or unpack it: zstd -d FILE") from error
    stream: IO[str] = zstandard.open(file, "rt", **how)
    return stream


def file_rows(file: Path, option: str, skipped: Skipped) -> Iterator[Row]:
    """Rows of a file, one at a time; a line, row or remainder of a file that cannot be read goes to `skipped`."""
    kind = suffix_of(file)
    try:
        if kind == ".parquet":
            yield from _parquet(file)
            return
        with opened(file) as stream:
            if kind == ".json":
                yield from _json(stream, f"{option}={file}", skipped)
            elif kind in (".csv", ".tsv"):
                csv.field_size_limit(sys.maxsize)
                yield from csv.DictReader(stream, delimiter="," if kind == ".csv" else "\t")
            else:
                yield from _lines(stream, f"{option}={file}", skipped)
    except (*DAMAGED, csv.Error, ValueError) as error:  # ValueError: Arrow's
        skipped.add(f"{option}={file}: cannot be read on: {error}")


def _parquet(file: Path) -> Iterator[Row]:
    from pyarrow import parquet  # here: it takes a while, and most runs read no file of this kind

    with parquet.ParquetFile(file) as opened_file:
        for batch in opened_file.iter_batches(batch_size=256):
            yield from batch.to_pylist()


def _json(stream: IO[str], where: str, skipped: Skipped) -> Iterator[Row]:
    """Rows of an array, of an object's table, or of lines, as many a .json file holds them."""
    text = stream.read()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        yield from _lines(io.StringIO(text), where, skipped)
        return
    tables = [found[name] for name in TABLES if isinstance(found.get(name), list)] if isinstance(found, dict) else []
    rows = found if isinstance(found, list) else tables[0] if tables else [found]
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict):
            yield row
        else:
            skipped.add(f"{where}: row {number}: expected an object, got {type(row).__name__}")


def _lines(lines: Iterable[str], where: str, skipped: Skipped) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            skipped.add(f"{where}: line {number} is no JSON: {error}")
            continue
        if isinstance(row, dict):
            yield row
        else:
            skipped.add(f"{where}: line {number}: expected an object, got {type(row).__name__}")
