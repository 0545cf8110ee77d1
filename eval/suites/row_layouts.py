"""What rows of a data set hold: text, chats, preferences or prompts with completions, found by their columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

from drafters.errors import DraftersError
from eval.suites.dataset_rows import DataError, Row

Message = dict[str, Any]  # "role": system | user | assistant | tool, "content": str, and what else a template may read
HEAD = 50  # rows that a layout is found by
CHATS = ("messages", "conversations", "conversation", "chat", "dialogue", "dialog")
QUESTIONS = ("prompt", "instruction", "question", "query")
ANSWERS = ("completion", "response", "output", "answer", "chosen")
TEXTS = ("text", "content", "document", "body", "code")
CONTENTS = ("content", "value", "text")  # of a message
OBVIOUS = 5  # times as long as any other column of strings
ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant",
    "bing": "assistant", "bard": "assistant", "function_call": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool", "tool_response": "tool",
}  # fmt: skip


class RowError(DraftersError):
    """A row that does not hold what its layout says; the message says why."""


@dataclass(frozen=True)
class Layout:
    """How rows are read: their ``text``, their ``chat``, or a question and its answer as a chat of two (``pair``)."""

    kind: Literal["text", "chat", "pair"]
    columns: tuple[str, ...]  # of a pair: those of the question, then the one of the answer

    def __str__(self) -> str:
        names = " + ".join(self.columns)
        return f"{'text' if self.kind == 'text' else 'chats'} of column{'s' * (len(self.columns) > 1)} {names}"


def find_layout(rows: Sequence[Row], column: str | None, option: str) -> Layout:
    """The layout of rows by their first ones, of `column` alone where it is given.

    Raises:
        DataError: no row has the column, or none or several columns may be meant.
    """
    names = list(dict.fromkeys(str(name) for row in rows for name in row))
    have = f"the rows have: {', '.join(sorted(names)) or 'no columns'}"
    if column is not None:
        if rows and column not in names:
            raise DataError(f"{option}={column}: no such column; {have}")
        return Layout("chat" if _is_chat(_first(rows, column)) else "text", (column,))
    for name in CHATS:
        if _is_chat(_first(rows, name)):
            return Layout("chat", (name,))
    if found := _answered(rows, names):
        return found
    return Layout("text", (_text_column(rows, names, f"{option}: ", have, option),))


def _answered(rows: Sequence[Row], names: Sequence[str]) -> Layout | None:
    """Preference and prompt-completion rows: of a preference the chosen answer counts."""
    answer = next((name for name in ANSWERS if name in names), None)
    question = next((name for name in QUESTIONS if name in names), None)
    if answer is None:
        return None
    if question is None:
        given = _first(rows, answer)
        whole: Literal["chat", "text"] = "chat" if _is_chat(given) else "text"
        return Layout(whole, (answer,)) if answer == "chosen" else None
    more = ("input",) if question == "instruction" and "input" in names and answer != "input" else ()
    return Layout("pair", (question, *more, answer))


def _text_column(rows: Sequence[Row], names: Sequence[str], begin: str, have: str, option: str) -> str:
    sizes = {
        name: sum(len(row[name]) for row in rows if isinstance(row.get(name), str))
        for name in names
        if isinstance(_first(rows, name), str)
    }
    known = [name for name in (*TEXTS, *QUESTIONS) if name in sizes or (len(names) == 1 and name in names)]
    if known:
        return known[0]
    longest = sorted(sizes, key=lambda name: -sizes[name])
    if longest and all(sizes[longest[0]] >= OBVIOUS * sizes[name] for name in longest[1:2]):
        return longest[0]
    what = " or ".join(longest[:2]) + "?" if longest else "no column holds text or chats"
    raise DataError(f"{begin}{what}; {have}; choose with {option}=COLUMN")


def _first(rows: Sequence[Row], name: str) -> Any:
    return next((row[name] for row in rows if row.get(name) is not None), None)


def _is_chat(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def read_row(row: Row, layout: Layout, option: str) -> str | list[Message]:
    """A row's text, or its messages in roles and contents that every template knows. Raises RowError."""
    values = [row.get(name) for name in layout.columns]
    if values[-1] is None:
        raise RowError(f"{option}={layout.columns[-1]}: no value")
    if layout.kind == "pair":
        *questions, answer = values
        asked = _as_messages(questions, "user")
        answered = _as_messages([answer], "assistant")
        return answered if answered[: len(asked)] == asked else asked + answered
    [value] = values
    if layout.kind == "text" and isinstance(value, str):
        return value
    if _is_chat(value):
        system = row.get("system")
        begin = [{"role": "system", "content": system}] if isinstance(system, str) and system else []
        return begin + _messages(value)
    shown = json.dumps(value, default=str)[:80]
    raise RowError(f"{option}={layout.columns[0]}: expected a column of strings or of lists of messages, got {shown}")


def _as_messages(parts: Sequence[Any], role: str) -> list[Message]:
    if _is_chat(parts[0]):
        return _messages(parts[0])
    return [{"role": role, "content": "\n\n".join(str(part) for part in parts if part)}]


def _messages(items: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The messages of a chat; a system's without content, as tables with a column for it hold, is none."""
    return [
        message(item)
        for item in items
        if any(item.get(name) is not None for name in CONTENTS) or ROLES.get(_role(item).lower()) != "system"
    ]


def _role(item: Mapping[str, Any]) -> str:
    return str(item.get("role") or item.get("from"))


def message(item: Mapping[str, Any]) -> Message:
    """A message as templates take it, of ``role``/``content`` or ``from``/``value``; None counts as not there.

    Of contents in parts the text stays. Arguments of tool calls that are JSON texts become objects.

    Raises:
        RowError: an unknown role, or neither content nor a tool call.
    """
    named = _role(item)
    role = ROLES.get(named.lower())
    if not (item.get("role") or item.get("from")):
        raise RowError(f"a message without role or from; it has: {', '.join(map(str, item)) or 'nothing'}")
    if role is None:
        raise RowError(f"unknown role {named!r}; known are: {', '.join(ROLES)}")
    value = next((item[name] for name in CONTENTS if item.get(name) is not None), None)
    called: Any = item.get("tool_calls")
    calls = [_call(call) for call in called or ()]
    if value is None and not calls:
        raise RowError(f"a message of {named} without content")
    known = ("role", "from", *CONTENTS, "tool_calls")
    rest = {name: more for name, more in item.items() if name not in known and more is not None}
    return {"role": role, "content": _content(value), **rest, **({"tool_calls": calls} if calls else {})}


def _content(value: Any) -> str:
    if isinstance(value, list):
        texts = [part.get("text") if isinstance(part, Mapping) else part for part in value]
        return "".join(text for text in texts if isinstance(text, str))
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _call(call: Any) -> Any:
    """A tool call without nulls, its arguments as an object: what templates of the Hub iterate over."""
    if not isinstance(call, Mapping):
        return call
    found = {name: value for name, value in call.items() if value is not None}
    if isinstance(found.get("function"), Mapping):
        found["function"] = _call(found["function"])
    if isinstance(found.get("arguments"), str):
        try:
            found["arguments"] = json.loads(found["arguments"])
        except ValueError:
            return found
    return found
