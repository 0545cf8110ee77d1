"""Rows of a data set of the Hugging Face Hub at one commit, and what all rows have in common."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drafters.errors import DraftersError

Row = dict[str, Any]
_REVISION = re.compile(r"[0-9a-f]{40}")
_HUB_TIMEOUT = 10.0  # seconds


class DataError(DraftersError):
    """A data set that is not there or not as described; the message names the setting that puts it right."""


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
