"""Prompts of one's own, as they lie there: chats up to the answer, columns of questions, lines or files of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from eval.suites.dataset_rows import DataError, Row
from eval.suites.row_files import Strict, file_rows, opened, suffix_of
from eval.suites.row_layouts import HEAD, Message, RowError, find_layout, read_row

TEXT = (".txt", ".md")
OPTION = "suite.text"
Found = tuple[str, str, list[Message] | None]  # its name, its text, its messages where it is a chat


def own_prompts(files: Sequence[Path], column: str | None) -> Iterator[Found]:
    """Prompts of files: a row each, a line of a text file each, or of several text files a file each.

    Args:
        column: of the rows' prompts or chats; None: found by itself.

    Raises:
        DataError: a broken row, or a chat in which nobody asks.
    """
    texts = sum(suffix_of(file) in TEXT for file in files)
    for file in files:
        if suffix_of(file) not in TEXT:
            yield from _of_rows(file, column)
            continue
        with opened(file) as stream:
            pieces = [stream.read()] if texts > 1 else stream.read().splitlines()
        named = (f"{file.name}:{number}" if texts == 1 else file.name for number in range(1, len(pieces) + 1))
        yield from ((name, text, None) for name, text in zip(named, pieces, strict=True) if text.strip())


def _of_rows(file: Path, column: str | None) -> Iterator[Found]:
    rows = file_rows(file, "suite.path", Strict())
    head = list(islice(rows, HEAD))
    if not head:
        return
    layout = find_layout([_single(row) for row in head], column, OPTION)
    for number, row in enumerate(map(_single, chain(head, rows)), 1):
        if layout.kind == "pair":  # the answer does not matter
            row = {**row, layout.columns[-1]: row.get(layout.columns[-1]) or ""}
        try:
            found = read_row(row, layout, OPTION)
        except RowError as error:
            raise DataError(f"suite.path={file}: row {number}: {error}") from error
        name = next((str(row[key]) for key in ("id", "question_id", "prompt_id", "task_id") if row.get(key)), "")
        yield (name or f"{file.name}:{number}", *_cut(found, f"suite.path={file}: row {number}"))


def _single(row: Row) -> Row:
    """A row whose lists of a user's turns hold the first of them, as in MT-Bench."""
    return {
        name: value[0] if isinstance(value, list) and value and isinstance(value[0], str) else value
        for name, value in row.items()
    }


def _cut(found: str | list[Message], where: str) -> tuple[str, list[Message] | None]:
    """A prompt's text, and its messages without the answers at their end."""
    if isinstance(found, str):
        return found, None
    last = max((number for number, item in enumerate(found) if item["role"] != "assistant"), default=-1)
    if last < 0:
        raise DataError(f"{where}: a chat of the assistant alone: nothing to answer")
    asked = found[: last + 1]
    return "\n\n".join([*(item["content"] for item in asked), ""]), asked
