"""Prompt suites: what drafters are measured on. One YAML of conf/suite each, read from the Hub or from a local file.

A prompt always has a plain text, in the format that the papers use; where it also is a conversation, a tokenizer with a
chat template gets that instead. Base models and the tiny ones therefore run every suite.
"""

import dataclasses
import difflib
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from drafters.io.paths import REPOSITORY
from drafters.vocab.protected import usual_template
from eval.suites.dataset_rows import DataError, Row, column, hub_rows, require_pinned
from eval.suites.own_prompts import TEXT, own_prompts
from eval.suites.row_files import ROWS, Strict, data_files, file_rows
from eval.suites.row_layouts import Message

FOLDER = REPOSITORY / "conf" / "suite"
EMBEDDED = Path(__file__).resolve().parent / "prompts"
DOMAINS = ("domain", "category")  # columns that tell what a prompt is about
PYCODE = {"name": "pycode", "path": "pycode.jsonl", "id": ["id"], "template": "{prompt}"}  # the embedded one
# prefix, suffix and middle mark of the families that can fill in the middle
INFILLING = (
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen coder, CodeGemma
    ("<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"),  # DeepSeek coder
    ("\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>"),  # Code Llama
)


@dataclass(frozen=True)
class Prompt:
    """One prompt of a suite."""

    id: str
    suite: str
    text: str
    # {"role", "content", ...}: for tokenizers with a chat template
    messages: tuple[Mapping[str, Any], ...] | None = None
    domain: str = ""  # by a column of `DOMAINS`; empty: none says


@dataclass(frozen=True)
class SuiteConfig:
    """Where a suite is and how a row becomes a prompt. ``path`` takes precedence over ``hub``."""

    name: str
    hub: str | None = None  # org/name
    revision: str | None = None  # commit of 40 hex digits
    subset: str | None = None
    split: str = "test"
    path: str | None = None  # file, folder or glob, see `row_files`; an embedded suite is named by its file alone
    source: str = ""  # where to get the rows, for suites that are not on the Hub
    id: list[str] = field(default_factory=list)  # columns, the first one present counts; none: the row's number
    # str.format over the row's columns; null: prompts as they are, found by themselves (see `own_prompts`)
    template: str | None = "{text}"
    text: str | None = None  # column of prompts or chats where the template is null; null: found by itself
    without: dict[str, str] = field(default_factory=dict)  # column -> template where that column is empty
    turns: list[str] = field(default_factory=list)  # columns with a list of user turns: `{turn}` is the first of them
    chat: str | None = (
        None  # template of the user's message; null: never a conversation (of own prompts: text stays text)
    )
    infilling: bool = False  # the template uses {PREFIX}, {SUFFIX} and {MIDDLE}: the tokenizer's marks

    @property
    def embedded(self) -> bool:
        """Whether the prompts came with this code, and are nobody's secret."""
        return self.path is not None and Path(self.path).name == self.path and (EMBEDDED / self.path).is_file()

    @property
    def file(self) -> str | None:
        """Where the rows lie: the embedded file of that name, else `path`; None for rows of the Hub."""
        embedded = EMBEDDED / (self.path or "")
        return str(embedded) if embedded.is_file() else self.path


def load(
    suite: SuiteConfig | Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> list[Prompt]:
    """The prompts of a suite.

    Args:
        tokenizer: needed by suites that fill in the middle.
        limit: as many prompts, drawn without replacement by `seed`, in the suite's order; None: all.

    Raises:
        DataError: a missing file or column, an unknown setting, an unpinned or unreachable Hub data set, a suite
            without prompts, or a tokenizer that cannot do what the suite needs.
    """
    suite = suite if isinstance(suite, SuiteConfig) else suite_config(suite)
    if limit is not None and limit < 1:
        raise DataError(f"limit must be at least 1, got {limit}; null for all prompts of {suite.name}")
    if suite.template is None and suite.path is not None:
        found = own_prompts(files_of(suite), suite.text)
        prompts = [Prompt(name, suite.name, text, _asked(suite, text, messages)) for name, text, messages in found]
    else:
        marks = _infilling_marks(tokenizer, suite.name) if suite.infilling else {}
        prompts = [_prompt(suite, number, row, marks) for number, row in enumerate(_rows(suite))]
    if not prompts:
        raise DataError(f"suite {suite.name}: {suite.path or suite.hub} holds no rows")
    if limit is None or limit >= len(prompts):
        return prompts
    return [prompts[i] for i in sorted(random.Random(seed).sample(range(len(prompts)), limit))]


def encode(prompt: Prompt, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None) -> Tensor:
    """Ids of a prompt, int64 (n,), n >= 1, with what the tokenizer puts around it (BOS, chat template).

    Of a prompt longer than `max_length`, the tokens before the text and the end of the text stay: what is continued is
    what stands last.

    Raises:
        DataError: an empty prompt, or `max_length` below 1.
    """
    if max_length is not None and max_length < 1:
        raise DataError(f"max_length must be at least 1, got {max_length}")
    if prompt.messages is not None and usual_template(tokenizer):
        messages = [dict(message) for message in prompt.messages]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ids, opening = _ids(tokenizer, text, False), 0
    else:
        plain, ids = (_ids(tokenizer, prompt.text, special) for special in (False, True))
        ids = ids[:-1] if ids[-1:] == [tokenizer.eos_token_id] and plain[-1:] != ids[-1:] else ids  # not to be ended
        opening = max(len(ids) - len(plain), 0)
    if not ids:
        raise DataError(f"prompt {prompt.id} of {prompt.suite} is empty for this tokenizer")
    if max_length is not None and len(ids) > max_length:
        head = min(opening, max_length - 1)
        ids = ids[:head] + ids[len(ids) - (max_length - head) :]
    return torch.tensor(ids, dtype=torch.int64)


def ids_of_rendered(text: str, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None) -> Tensor:
    """Ids of what a chat template rendered, int64 (n,), of which the last `max_length` stay: it holds its own BOS."""
    ids = _ids(tokenizer, text, False)
    return torch.tensor(ids[max(0, len(ids) - (max_length or len(ids))) :], dtype=torch.int64)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, special: bool) -> list[int]:
    # Not verbose: what becomes of a long prompt is this module's affair, and told by its callers.
    ids: list[int] = tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
    return ids


def suite_config(values: Mapping[str, Any]) -> SuiteConfig:
    """Settings of a suite from a plain mapping. Raises DataError for an unknown or missing one."""
    known = [item.name for item in dataclasses.fields(SuiteConfig)]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean suite.{near[0]}? " if near else ""
            raise DataError(f"suite.{name}: no such setting; {hint}choose one of: {', '.join(known)}")
    if not values.get("name"):
        raise DataError("no suite: choose one of conf/suite, e.g. suite=pycode")
    return SuiteConfig(**{str(name): value for name, value in values.items()})


def named(name: str, path: str | None = None) -> SuiteConfig:
    """A file of conf/suite, its rows from `path` where one is given. Raises DataError for an unknown name."""
    file = FOLDER / f"{name}.yaml"
    if not file.is_file():
        known = sorted(other.stem for other in FOLDER.glob("*.yaml"))
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise DataError(f"{name}: no such suite; {hint}choose one of: {', '.join(known)}")
    values: Any = OmegaConf.to_container(OmegaConf.load(file))
    return suite_config(values | ({"path": path} if path else {}))


def _rows(suite: SuiteConfig) -> Iterable[Row]:
    if suite.file is not None:
        return (row for file in files_of(suite) for row in file_rows(file, "suite.path", Strict()))
    if suite.hub is None:
        where = f" (get it from {suite.source})" if suite.source else ""
        raise DataError(f"suite {suite.name} is not on the Hub: give its file{where} with suite.path=FILE")
    return hub_rows(suite.hub, suite.revision, suite.subset, suite.split, "suite")


def files_of(suite: SuiteConfig) -> list[Path]:
    """The files of a suite that has a path. Raises DataError as `data_files` does."""
    return data_files(str(suite.file), ROWS if suite.template is not None else (*ROWS, *TEXT), "suite.path")


def look(suite: SuiteConfig) -> None:
    """Read the prompts of a local suite once. Raises DataError as `load` does, without a network and a tokenizer."""
    if suite.path is not None and not suite.infilling:
        load(suite)
    elif suite.path is not None:
        files_of(suite)
    elif suite.hub is None:
        _rows(suite)
    else:
        require_pinned(suite.hub, suite.revision, "suite")


def _asked(suite: SuiteConfig, text: str, messages: list[Message] | None) -> tuple[Mapping[str, Any], ...] | None:
    if messages is not None:
        return tuple(messages)
    return None if suite.chat is None else ({"role": "user", "content": _filled(suite, suite.chat, {"text": text})},)


def _prompt(suite: SuiteConfig, number: int, row: Row, marks: Mapping[str, str]) -> Prompt:
    fields, template = {**row, **marks}, suite.template or "{text}"
    if suite.turns:
        fields["turn"] = _first(row, suite.turns, "suite.turns")[0]
    for name, shorter in suite.without.items():
        if not column(row, name, "suite.without"):
            template = shorter
    chat = None if suite.chat is None else _filled(suite, suite.chat, fields)
    messages = None if chat is None else ({"role": "user", "content": chat},)
    identity = str(_first(row, suite.id, "suite.id")) if suite.id else str(number)
    domain = next((str(row[name]) for name in DOMAINS if row.get(name)), "")
    return Prompt(identity, suite.name, _filled(suite, template, fields), messages, domain)


def _first(row: Row, names: list[str], option: str) -> Any:
    present = [name for name in names if name in row]
    return column(row, present[0] if present else names[0], option)


def _filled(suite: SuiteConfig, template: str, fields: Mapping[str, Any]) -> str:
    try:
        return template.format_map(fields)
    except (KeyError, IndexError, AttributeError) as error:
        raise DataError(
            f"suite {suite.name}: its template {template!r} does not fit the rows ({type(error).__name__}: {error}); "
            f"they have: {', '.join(sorted(map(str, fields)))}"
        ) from error


def _infilling_marks(tokenizer: PreTrainedTokenizerBase | None, name: str) -> dict[str, str]:
    vocabulary = tokenizer.get_vocab() if tokenizer is not None else {}
    for marks in INFILLING:
        if all(mark in vocabulary for mark in marks):
            return dict(
                zip(
                    ("PREFIX", "SUFFIX", "MIDDLE"),
                    (mark.replace("\u2581<", " <").lstrip() for mark in marks),
                    strict=True,
                )
            )
    raise DataError(
        f"suite {name} fills in the middle, and this tokenizer has none of the known marks "
        f"({', '.join(marks[0] for marks in INFILLING)}): use a code model that was trained on them"
    )
