"""Rows of a data set: local jsonl, json, csv or parquet files, or a data set of the Hugging Face Hub at one commit."""

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from drafters.errors import DraftersError

Row = dict[str, Any]
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet", ".csv")
_REVISION = re.compile(r"[0-9a-f]{40}")
_HUB_TIMEOUT = 10.0  # seconds


class DataError(DraftersError):
    """A data set that is not there or not as described; the message names the setting that puts it right."""


def local_rows(path: str | Path, option: str) -> Iterator[Row]:
    """Rows of a file, or of every data file of a folder in the order of their names, one at a time.

    Args:
        option: the setting that gave the path, for messages, e.g. ``corpus.path``.

    Raises:
        DataError: no such file, no data file in the folder, an unknown suffix, or a line that is no JSON object.
    """
    for file in data_files(path, SUFFIXES, option):
        yield from _file_rows(file, option)


def data_files(path: str | Path, suffixes: tuple[str, ...], option: str) -> list[Path]:
    """The file itself, or the folder's files with one of the suffixes, sorted by name. Raises DataError if none."""
    root = Path(path).expanduser()
    if root.is_file():
        if root.name.endswith(suffixes):
            return [root]
        raise DataError(f"{option}={path}: expected a file ending in one of {', '.join(suffixes)}, got {root.name!r}")
    if not root.is_dir():
        raise DataError(f"{option}={path}: no such file or folder")
    found = sorted(file for file in root.rglob("*") if file.is_file() and file.name.endswith(suffixes))
    files = [file for file in found if not any(part.startswith(".") for part in file.relative_to(root).parts)]
    if not files:
        raise DataError(f"{option}={path}: the folder holds no file ending in one of {', '.join(suffixes)}")
    return files


def _file_rows(file: Path, option: str) -> Iterator[Row]:
    name = file.name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        yield from _jsonl(file, option)
    elif name.endswith(".json"):
        with _open(file) as stream:
            rows = json.load(stream)
        if not isinstance(rows, list):
            raise DataError(f"{option}={file}: expected a JSON array of objects, got {type(rows).__name__}")
        yield from rows
    else:
        from datasets import load_dataset  # here: it takes a second, and most runs need no data set of this kind

        kind = "parquet" if name.endswith(".parquet") else "csv"
        yield from load_dataset(kind, data_files=str(file), split="train", streaming=True)


def _open(file: Path) -> IO[str]:
    # broken bytes become U+FFFD: one bad line must not end a count of hours
    opener = gzip.open if file.suffix == ".gz" else open
    return cast(IO[str], opener(file, "rt", encoding="utf-8", errors="replace"))


def _jsonl(file: Path, option: str) -> Iterator[Row]:
    with _open(file) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{option}={file}: line {number} is no JSON: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f"{option}={file}: line {number}: expected an object, got {type(row).__name__}")
            yield row


def require_pinned(hub: str, revision: str | None, option: str) -> None:
    """Raise DataError where `revision` is not a commit: a branch can change, and with it what was measured."""
    if revision is None or not _REVISION.fullmatch(revision):
        raise DataError(
            f"{option}.revision={revision}: expected a commit of 40 hex digits (a branch can change; the page of {hub} "
            f"on the Hub shows its commits). Or use a local copy: {option}.path=FILE"
        )


def hub_rows(hub: str, revision: str | None, subset: str | None, split: str, option: str) -> Iterator[Row]:
    """Rows of a Hub data set, streamed: nothing but the rows read is downloaded.

    Args:
        hub: ``org/name``. revision: commit of 40 hex digits. subset: the data set's configuration, if it has several.
        option: group of the settings, ``corpus`` or ``suite``.

    Raises:
        DataError: the revision is not pinned, or the Hub does not give the data set.
    """
    require_pinned(hub, revision, option)
    from datasets import load_dataset
    from huggingface_hub import HfApi

    where = f"{hub}@{revision}" + (f" ({subset})" if subset else "")
    # Any exception: what these libraries raise without a network changes from version to version.
    try:
        # asked first because it fails at once without a network, where streaming would retry for minutes
        HfApi().dataset_info(hub, revision=revision, timeout=_HUB_TIMEOUT)
        rows: Iterable[Row] = load_dataset(hub, subset, split=split, revision=revision, streaming=True)
    except Exception as error:
        raise DataError(
            f"{where}: the Hub did not give the data set ({type(error).__name__}: {_first_line(error)}). "
            f"Use a local copy: {option}.path=FILE"
        ) from error
    yield from rows


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no details"])[0][:200]


def column(row: Mapping[str, Any], name: str, option: str) -> Any:
    """``row[name]``. Raises DataError listing the columns there are."""
    if name not in row:
        raise DataError(f"{option}={name}: no such column; the rows have: {', '.join(sorted(map(str, row)))}")
    return row[name]
