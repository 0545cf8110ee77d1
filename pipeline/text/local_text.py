"""Documents of files and rows: what a corpus' rows hold as text or chats, and what its text files hold in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import IO

from drafters.vocab.counting.tally import well_formed
from eval.suites.dataset_rows import Row, column
from eval.suites.row_files import ROWS, Skipped, opened, suffix_of
from eval.suites.row_layouts import HEAD, Layout, RowError, find_layout, read_row
from pipeline.text.chat_format import ChatFormat
from pipeline.text.domains import label_column
from pipeline.text.python_source import Document

FORMATS = {"rows": ROWS, "python": (".py",), "text": (".txt", ".md", ".rst")}
# A longer file is cut at blank lines into documents of about this many characters: books into pieces small enough to be
# held out one by one, code only where a file would not fit in memory.
PIECE_CHARACTERS = {"text": 20_000, "python": 1_000_000}


@dataclass(frozen=True)
class Reader:
    """The way in which the rows of files become documents."""

    text: str | None  # column; None: found by itself
    domain: str | None  # column; None: found by itself, else the file's label
    every_turn: bool = False  # of chats
    answered: bool = True  # a chat in which the assistant says nothing is broken
    chats: ChatFormat = field(default_factory=ChatFormat)
    skipped: Skipped = field(default_factory=Skipped)

    def layout(self, rows: list[Row]) -> Layout:
        """What the first rows hold. Raises DataError as `find_layout` does."""
        return find_layout(rows, self.text, "corpus.text")

    def of_rows(self, rows: Iterable[Row], label: str = "") -> Iterator[Document]:
        """A document of each row; rows without what their layout says are left out and noted. `label`: of the file."""
        stream = iter(rows)
        head = list(islice(stream, HEAD))
        if not head:
            return
        layout, known = self.layout(head), label_column(head) if self.domain is None else None
        for number, row in enumerate(chain(head, stream)):
            try:
                document = self._of_row(row, layout, f"row {number}", str((known and row.get(known)) or label))
            except RowError as error:
                self.skipped.add(f"row {number + 1}: {error}")
                continue
            yield document

    def _of_row(self, row: Row, layout: Layout, place: str, label: str) -> Document:
        domain = label if self.domain is None else str(column(row, self.domain, "corpus.domain"))
        found = read_row(row, layout, "corpus.text")
        if isinstance(found, str):
            return Document(place, well_formed(found), domain)
        made = self.chats.document(found, place, domain, self.every_turn, self.answered)
        text, prompt, whole = (well_formed(part or "") for part in (made.text, made.prompt, made.whole))
        return Document(place, text, domain, prompt, whole)


def kind_of(file: Path) -> str:
    """``rows``, ``python`` or ``text``, by a file's suffix."""
    return next(kind for kind, suffixes in FORMATS.items() if suffix_of(file) in suffixes)


def of_text_file(file: Path, name: str, domain: str, size: int) -> Iterator[Document]:
    """A file in pieces of about `size` characters, cut at blank lines."""
    with opened(file) as stream:
        for piece in _pieces(stream, size):
            yield Document(name, well_formed(piece), domain)


def _pieces(stream: IO[str], size: int) -> Iterator[str]:
    lines: list[str] = []
    held = 0
    for line in stream:
        lines.append(line)
        held += len(line)
        if held >= size and not line.strip():
            yield "".join(lines)
            lines, held = [], 0
    if lines:
        yield "".join(lines)
