"""The grammar of `python -m eval`: key=value words become the dataclass of a command, whose comments are its help.

A field without a default must be given, and may be given as a bare word; a list takes its items with commas between.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import inspect
import io
import itertools
import tokenize
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from omegaconf import MissingMandatoryValue, OmegaConf
from omegaconf.errors import ConfigKeyError, ValidationError

from drafters.errors import DraftersError

Options = TypeVar("Options")
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}


class OptionError(DraftersError):
    """A word of a command line that nothing is called."""


def read_options(kind: type[Options], words: Sequence[str]) -> Options:
    """Fill a dataclass of options from words `key=value`; a bare word is the next field without a default.

    Raises OptionError for an unknown key, a value of another type and a missing value; it names what is nearest.
    """
    config = OmegaConf.structured(kind)
    types = get_type_hints(kind)
    bare = iter(required(kind))
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            key, text = next(bare, ""), word
        if key not in types:
            known = [f"{name}=" for name in types]
            raise OptionError(f"{word}: expected one of {', '.join(known)}{nearest(f'{key or word}=', known)}")
        listed = get_args(types[key])  # of list[int]: (int,)
        try:
            config[key] = [item.strip() for item in text.strip("[]").split(",") if item.strip()] if listed else text
        except (ValidationError, ConfigKeyError) as error:
            raise OptionError(f"{key}={text}: expected {_expected(types[key], text)}") from error
    try:
        return OmegaConf.to_object(config)  # type: ignore[return-value]
    except MissingMandatoryValue as error:
        missing = next(name for name in required(kind) if OmegaConf.is_missing(config, name))
        raise OptionError(f"{missing}=: expected {_expected(types[missing], '')}, got nothing") from error


def required(kind: type) -> list[str]:
    """The names of the fields that have no default, in their order."""
    return [item.name for item in _fields(kind) if _default(item) is dataclasses.MISSING]


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error's sentence: "; did you mean ...?", or nothing where no known word is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def describe_options(kind: type) -> list[str]:
    """The lines of a command's help: every option with its default and its comment."""
    comments = comments_of(kind)
    shown = {item.name: f"{item.name}={_written(_default(item))}" for item in _fields(kind)}
    width = max(map(len, shown.values()), default=0)
    return [f"  {text:<{width}}  {comments.get(name, '')}".rstrip() for name, text in shown.items()]


def comments_of(kind: type) -> dict[str, str]:
    """Field -> its comment: at the end of its line, within the parentheses of its default, or on the lines above it."""
    found: dict[str, str] = {}
    fields = {item.name for item in _fields(kind)}
    name, depth, above = "", 0, ""
    tokens = tokenize.generate_tokens(io.StringIO(inspect.getsource(kind)).readline)
    for token, following in itertools.pairwise(tokens):
        depth += (token.string in ("(", "[", "{")) - (token.string in (")", "]", "}"))
        if token.type == tokenize.NAME and following.string == ":" and token.string in fields and not depth:
            name = token.string
            found[name], above = above[:1].lower() + above[1:], ""
        elif token.type == tokenize.COMMENT:
            text = token.string.lstrip("# ")
            if not depth and not token.line[: token.start[1]].strip():
                above = f"{above} {text}".strip()
            elif name:
                found[name] = f"{found[name]} {text}".strip()
    return found


def _fields(kind: type) -> Sequence[dataclasses.Field[Any]]:
    return dataclasses.fields(kind)


def _default(item: dataclasses.Field[Any]) -> Any:
    return item.default if item.default_factory is dataclasses.MISSING else item.default_factory()


def _written(value: Any) -> str:
    """A default as it would be typed."""
    if value is dataclasses.MISSING:
        return "..."
    if isinstance(value, list):
        return ",".join(map(_written, value))
    if isinstance(value, enum.Enum):
        return value.name
    return str(value).lower() if isinstance(value, bool) else str(value)


def _expected(kind: Any, got: str) -> str:
    if inner := get_args(kind):
        return f"{KINDS[inner[0]]}, or some with commas between"
    if issubclass(kind, enum.Enum):
        names = [item.name for item in kind]
        return f"one of {', '.join(names)}{nearest(got, names)}"
    return KINDS[kind]
