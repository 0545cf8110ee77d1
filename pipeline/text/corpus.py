"""Text to count, generate from and train on: Python source of this machine, local files, or a data set of the Hub.

A corpus is one YAML of conf/corpus. It is read as a stream and split in two: what tokens are ranked by ("train") and
what the ranking is judged on ("heldout").
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from drafters.vocab.counting.tally import well_formed
from eval.suites.dataset_rows import SUFFIXES, DataError, Row, column, data_files, hub_rows, local_rows, require_pinned
from pipeline.errors import ConfigError
from pipeline.runner.discovery import suggest
from pipeline.text import python_source
from pipeline.text.python_source import Document

Split = Literal["train", "heldout"]
SOURCES = ("python", "local", "hub")
FORMATS = {"rows": SUFFIXES, "python": (".py",), "text": (".txt", ".md", ".rst")}
HELD_OUT_EVERY = 20  # documents, one of which is held out
# A longer file is cut at blank lines into documents of about this many characters: books into pieces small enough to be
# held out one by one, code only where a file would not fit in memory.
PIECE_CHARACTERS = {"text": 20_000, "python": 1_000_000}


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
    path: str | None = None  # file or folder
    format: str = "auto"  # of `path`: rows (jsonl, json, csv, parquet) | text | python | auto (by suffix)
    text: str = "text"  # column: a string, or a list of chat messages
    domain: str | None = None  # column; null: one domain


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
    for name, value, choices in (("source", corpus.source, SOURCES), ("format", corpus.format, ("auto", *FORMATS))):
        if value not in choices:
            raise ConfigError(f"corpus.{name}={value}: {suggest(str(value), choices)}")
    if corpus.path is None and (corpus.source == "local" or (corpus.source == "hub" and corpus.hub is None)):
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
    if corpus.path is None:
        return None
    return sum(file.stat().st_size for file in data_files(corpus.path, FORMATS[_format(corpus)], "corpus.path"))


def documents(corpus: CorpusConfig, split: Split) -> Iterator[Document]:
    """Documents of one split, see `both`."""
    return (document for kind, document in both(corpus, (split,)) if kind == split)


def both(corpus: CorpusConfig, wanted: tuple[Split, ...] = ("train", "heldout")) -> Iterator[tuple[Split, Document]]:
    """(split, well-formed document), streamed in one pass and in an order that never changes.

    Args:
        wanted: splits that are needed; another one is left out where that saves reading it.

    Raises:
        DataError: a missing file or column, broken rows, or a Hub that cannot be reached.
    """
    if _is_python_source(corpus):
        # `test` stays unseen here: the prompts that are measured come from it
        named: dict[Split, Iterable[Document]] = {
            "train": python_source.documents("train"),
            "heldout": python_source.documents("calibration"),
        }
    elif corpus.heldout_split is not None and corpus.path is None:
        named = {"train": _read(corpus, corpus.split), "heldout": _read(corpus, corpus.heldout_split)}
    else:
        for document in _read(corpus, corpus.split):
            yield ("heldout" if is_heldout(document.text) else "train"), document
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
    """Whether a document of a corpus without its own held-out split is held out: decided by its text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % HELD_OUT_EVERY == 0


def _is_python_source(corpus: CorpusConfig) -> bool:
    return corpus.source == "python" and corpus.path is None


def _format(corpus: CorpusConfig) -> str:
    if corpus.format != "auto":
        return corpus.format
    path = Path(corpus.path or "").expanduser()
    names = [file.name for file in path.rglob("*")] if path.is_dir() else [path.name]
    return next((kind for kind, suffixes in FORMATS.items() if any(n.endswith(suffixes) for n in names)), "rows")


def _read(corpus: CorpusConfig, split: str) -> Iterator[Document]:
    if corpus.path is None:
        rows = hub_rows(corpus.hub or "", corpus.revision, corpus.subset, split, "corpus")
        return _row_documents(corpus, rows)
    if _format(corpus) == "rows":
        return _row_documents(corpus, local_rows(corpus.path, "corpus.path"))
    kind, root = _format(corpus), Path(corpus.path).expanduser()
    files = data_files(root, FORMATS[kind], "corpus.path")
    return chain.from_iterable(_file_documents(file, root, corpus.name, PIECE_CHARACTERS[kind]) for file in files)


def _row_documents(corpus: CorpusConfig, rows: Iterable[Row]) -> Iterator[Document]:
    for number, row in enumerate(rows):
        text = _text(column(row, corpus.text, "corpus.text"), corpus.text)
        domain = corpus.name if corpus.domain is None else str(column(row, corpus.domain, "corpus.domain"))
        yield Document(f"row {number}", well_formed(text), domain)


def _text(value: Any, name: str) -> str:
    """A cell as text; the messages of a chat are joined by blank lines."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, Mapping) and "content" in item for item in value):
        return "\n\n".join(str(item["content"]) for item in value)
    raise ConfigError(
        f"corpus.text={name}: expected a column of strings or of lists of messages with 'content', got {value!r:.80}"
    )


def _file_documents(file: Path, root: Path, domain: str, size: int) -> Iterator[Document]:
    name = file.relative_to(root).as_posix() if root.is_dir() else file.name
    lines: list[str] = []
    held = 0
    with open(file, encoding="utf-8", errors="replace", newline="") as stream:
        for line in stream:
            lines.append(line)
            held += len(line)
            if held >= size and not line.strip():
                yield Document(name, well_formed("".join(lines)), domain)
                lines, held = [], 0
    if lines:
        yield Document(name, well_formed("".join(lines)), domain)
