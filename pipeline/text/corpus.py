"""Text to count, generate from and train on: Python source of this machine, local files, or a data set of the Hub.

A corpus is one YAML of conf/corpus. It is read as a stream and split in two: what tokens are ranked by ("train") and
what the ranking is judged on ("heldout"). Chats are rendered by the target's own template.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from eval.suites.dataset_rows import DataError, hub_rows, require_pinned
from eval.suites.row_files import Skipped, data_files, file_rows, is_glob, suffix_of
from eval.suites.row_layouts import HEAD, find_layout
from pipeline.errors import ConfigError
from pipeline.runner.discovery import suggest
from pipeline.text import python_source
from pipeline.text.chat_format import ChatFormat
from pipeline.text.domains import file_labels
from pipeline.text.local_text import FORMATS, PIECE_CHARACTERS, Reader, kind_of, of_text_file
from pipeline.text.python_source import Document

Split = Literal["train", "heldout"]
SOURCES = ("python", "local", "hub")
TURNS = ("assistant", "all")
ASK_CORPUS = (
    "give text like what the pair will write: corpus=local corpus.path=FILE_OR_FOLDER (chats, rows, text), or name a file "
    "of conf/corpus as a stand-in: corpus=pycode is Python source of this machine"
)
HELD_OUT_EVERY = 20  # documents, one of which is held out


@dataclass(frozen=True)
class CorpusConfig:
    """Where a corpus is and how its rows are read. ``path`` takes precedence over ``hub``."""

    name: str
    source: str = "hub"  # python | local | hub
    hub: str | None = None  # org/name
    revision: str | None = None  # commit of 40 hex digits
    subset: str | None = None  # configuration of the data set
    split: str = "train"
    heldout_split: str | None = None  # null: every twentieth document, by the hash of its text
    path: str | None = None  # file, folder or glob
    # Of `path`, packed or not: rows (jsonl, json, csv, tsv, parquet) | text | python | auto (each file by its suffix)
    format: str = "auto"
    text: str | None = None  # column of strings or of chats; null: found by itself
    turns: str = "assistant"  # of chats: what is counted, assistant (what the target says) | all
    # Column; null: one of domain, kind, category, language, lang and source, else of a glob the file's name, else the script
    domain: str | None = None


def corpus_config(values: Mapping[str, Any]) -> CorpusConfig:
    """A corpus from the values of its file in conf/corpus.

    Raises:
        ConfigError: an unknown setting or choice, or a corpus without a place.
    """
    known = [item.name for item in dataclasses.fields(CorpusConfig)]
    for name in values:
        if name not in known:
            raise ConfigError(f"corpus.{name}: no such setting; {suggest(name, known)}")
    corpus = CorpusConfig(**values)
    for name, value, choices in (
        ("source", corpus.source, SOURCES), ("format", corpus.format, ("auto", *FORMATS)), ("turns", corpus.turns, TURNS),
    ):  # fmt: skip
        if value not in choices:
            raise ConfigError(f"corpus.{name}={value}: {suggest(str(value), choices)}")
    if corpus.path is None and corpus.source == "local":
        raise ConfigError(f"corpus={corpus.name}: no corpus.path: {ASK_CORPUS}")
    if corpus.path is None and corpus.source == "hub" and corpus.hub is None:
        raise ConfigError(f"corpus={corpus.name}: no place to read from; set corpus.path=FILE or corpus.hub=ORG/NAME")
    return corpus


def key_values(corpus: CorpusConfig) -> dict[str, object]:
    """What a stage's content key needs to know of the corpus besides `external`."""
    values: dict[str, object] = dataclasses.asdict(corpus) | {"path": None}  # its content counts, not its place
    if _is_python_source(corpus):
        values["content"] = [python_source.fingerprint(split) for split in ("train", "calibration")]
    return values


def external(corpus: CorpusConfig) -> dict[str, str]:
    """Setting -> local path or pinned Hub id, for `Stage.external`. Raises ConfigError for an unpinned revision."""
    if corpus.path is not None:
        if is_glob(corpus.path):
            return {f"corpus.path {number}": str(file) for number, file in enumerate(_files(corpus))}
        return {"corpus.path": corpus.path}
    if _is_python_source(corpus):
        return {}
    try:
        require_pinned(str(corpus.hub), corpus.revision, "corpus")
    except DataError as error:
        raise ConfigError(str(error)) from error
    return {"corpus.hub": f"{corpus.hub}@{corpus.revision}"}


def size_hint(corpus: CorpusConfig) -> int | None:
    """Bytes of the whole corpus where that is known beforehand (compressed files count as they are), else None."""
    if _is_python_source(corpus):
        splits = python_source.collect()
        return sum(len(document.text) for split in ("train", "calibration") for document in splits[split])
    return None if corpus.path is None else sum(file.stat().st_size for file in _files(corpus))


def look(corpus: CorpusConfig) -> str:
    """What the corpus' first file with rows holds, in words; empty for text that is not local.

    Raises:
        DataError: no such file, none that can be read, no column of text or several, no row that is not broken.
    """
    if corpus.path is None:
        return ""
    files = _files(corpus)
    kinds = ", ".join(f"{number:,} {suffix}" for suffix, number in sorted(Counter(map(suffix_of, files)).items()))
    tables = [file for file in files if _kind(corpus, file) == "rows"]
    if not tables:
        return kinds
    skipped = Skipped()
    heads = (list(islice(file_rows(file, "corpus.path", skipped), HEAD)) for file in tables)
    rows = next((head for head in heads if head), [])  # of the first file that holds any
    if not rows and len(tables) == len(files):
        why = skipped.first or f"corpus.path={corpus.path}: empty, or nothing but a header"
        raise DataError(f"no row can be read: {why}")
    if not rows:
        return kinds
    layout = find_layout(rows, corpus.text, "corpus.text")
    if layout.kind == "text":
        return f"{kinds}: {layout}"
    counted = "the assistant's turns alone, corpus.turns=all for all" if corpus.turns == "assistant" else "all turns"
    return f"{kinds}: {layout}, {counted}"


def documents(
    corpus: CorpusConfig,
    split: Split,
    chats: ChatFormat | None = None,
    skipped: Skipped | None = None,
    answered: bool = True,
) -> Iterator[Document]:
    """Documents of one split, see `both`."""
    return (document for kind, document in both(corpus, (split,), chats, skipped, answered) if kind == split)


def both(
    corpus: CorpusConfig,
    wanted: tuple[Split, ...] = ("train", "heldout"),
    chats: ChatFormat | None = None,
    skipped: Skipped | None = None,
    answered: bool = True,
) -> Iterator[tuple[Split, Document]]:
    """(split, well-formed document), streamed in one pass and in an order that never changes.

    Args:
        wanted: splits that are needed; another one is left out where that saves reading it.
        chats: how the target's chats are rendered; None: without a template.
        skipped: takes note of broken rows, which are left out.
        answered: whether a chat without a turn of the assistant is broken; False where prompts are all that is asked for.

    Raises:
        DataError: a missing file or column, nothing but broken rows, or a Hub that cannot be reached.
    """
    reader = Reader(
        corpus.text, corpus.domain, corpus.turns == "all", answered, chats or ChatFormat(), skipped or Skipped()
    )
    if _is_python_source(corpus):
        # `test` stays unseen here: the prompts that are measured come from it
        named: dict[Split, Iterable[Document]] = {
            "train": python_source.documents("train"),
            "heldout": python_source.documents("calibration"),
        }
    elif corpus.heldout_split is not None and corpus.path is None:
        named = {"train": _read(corpus, corpus.split, reader), "heldout": _read(corpus, corpus.heldout_split, reader)}
    else:
        for document in _read(corpus, corpus.split, reader):
            yield ("heldout" if is_heldout(document.reading) else "train"), document
        return
    chosen = [(split, iter(named[split]), 1 if split == "heldout" else HELD_OUT_EVERY - 1) for split in wanted]
    while chosen:  # in turn, so that the beginning of a stream, which may be all that is read, holds both
        for entry in list(chosen):
            split, stream, turn = entry
            taken = list(islice(stream, turn))
            yield from ((split, document) for document in taken)
            if not taken:
                chosen.remove(entry)


def is_heldout(text: str) -> bool:
    """Whether a document of a corpus without its own held-out split is held out: decided by all of its text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % HELD_OUT_EVERY == 0


def _is_python_source(corpus: CorpusConfig) -> bool:
    return corpus.source == "python" and corpus.path is None


def _files(corpus: CorpusConfig) -> list[Path]:
    wanted = [corpus.format] if corpus.format != "auto" else list(FORMATS)
    return data_files(corpus.path or "", tuple(suffix for kind in wanted for suffix in FORMATS[kind]), "corpus.path")


def _kind(corpus: CorpusConfig, file: Path) -> str:
    return kind_of(file) if corpus.format == "auto" else corpus.format


def _read(corpus: CorpusConfig, split: str, reader: Reader) -> Iterator[Document]:
    """All documents of a split. Raises DataError where there is none for broken rows alone."""
    found, before = 0, reader.skipped.count
    streams = _streams(corpus, split, reader)
    for found, document in enumerate((item for stream in streams for item in stream), 1):  # noqa: B007 - used below
        yield document
    if not found and reader.skipped.count > before:
        raise DataError(
            f"corpus {corpus.name}: all {reader.skipped.count:,} rows are broken, the first: {reader.skipped.first}"
        )


def _streams(corpus: CorpusConfig, split: str, reader: Reader) -> Iterator[Iterable[Document]]:
    if corpus.path is None:
        yield reader.of_rows(hub_rows(corpus.hub or "", corpus.revision, corpus.subset, split, "corpus"))
        return
    root, files = Path(corpus.path).expanduser(), _files(corpus)
    labels = file_labels(files) if is_glob(corpus.path) else {}
    for file in files:
        if (kind := _kind(corpus, file)) == "rows":
            yield reader.of_rows(file_rows(file, "corpus.path", reader.skipped), labels.get(file, ""))
        else:
            name = file.relative_to(root).as_posix() if root.is_dir() else file.name
            yield of_text_file(file, name, labels.get(file, ""), PIECE_CHARACTERS[kind])
