"""What README and docs say, taken apart: commands, code, links, paths, numbers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
SETTING = re.compile(r"[a-z_]+(\.[a-z_]+)*=[^\s=]+")
PATH = re.compile(r"(drafters|eval|pipeline|conf|docs|tests)/[\w./-]*|\.ci/run")
NUMBER = re.compile(r"\d+e-\d+|\d+(?:\.\d+)?")
BEGINNINGS = ("make ", "python -m ", ".venv/bin/python -m ")
PLACEHOLDERS = {
    "<40 hex digits>": "0123456789abcdef0123456789abcdef01234567",
    "<key>": "0123456789abcdef",
    "COLUMN": "text",
}


def names(path: Path) -> str:
    """A page as tests call it."""
    return path.relative_to(ROOT).as_posix()


def text(path: Path) -> str:
    """A page's text."""
    return path.read_text(encoding="utf-8")


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page)


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of one language; "" for those without."""
    return [found[2] for found in FENCE.finditer(page) if found[1] == language]


def commands(page: str) -> list[str]:
    """Every command that a page tells its reader to run, comments left out."""
    lines = [line for block in blocks(page, "") for line in block.splitlines()] + INLINE.findall(prose(page))
    found = [re.split(r"\s+#", line.strip())[0] for line in lines]
    return list(dict.fromkeys(line for line in found if line.startswith(BEGINNINGS)))


def words(command: str) -> list[str]:
    """A command's words, placeholders filled in."""
    for name, value in PLACEHOLDERS.items():
        command = command.replace(name, value)
    return shlex.split(command)


def arguments(command: str) -> list[str]:
    """What a make command gives in ARGS, split as the shell does that make hands it to."""
    given = [word for word in words(command) if word.startswith("ARGS=")]
    return shlex.split(given[0].removeprefix("ARGS=")) if given else []


def settings(page: str) -> list[str]:
    """Every `key=value` that stands alone in the prose."""
    found = (word for quoted in INLINE.findall(prose(page)) for word in quoted.split(", "))
    return list(dict.fromkeys(word for word in found if SETTING.fullmatch(word) and "." in word.partition("=")[0]))


def paths(page: str) -> list[str]:
    """Files and folders of the repository that the prose names, without those that hold a placeholder."""
    return [quoted for quoted in INLINE.findall(prose(page)) if PATH.fullmatch(quoted)]


def links(page: str) -> list[str]:
    """Relative links, with their anchors."""
    return [link for link in LINK.findall(prose(page)) if "://" not in link]


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    heads = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", head.lower()).strip()) for head in heads}


def numbers(page: str) -> list[str]:
    """The numbers of the prose: no blocks, no addresses of links."""
    return NUMBER.findall(LINK.sub("]", prose(page)))


def make_targets(makefile: str) -> set[str]:
    """The targets of a Makefile, those of its list of stages included."""
    stages = re.findall(r"^STAGES := (.+)$", makefile, re.M)
    return {*re.findall(r"^([a-z][a-z-]*):[^=]", makefile, re.M), *(stages[0].split() if stages else [])}


def values(found: object) -> Iterator[float]:
    """All numbers of a JSON value, and how many entries its lists and objects have."""
    if isinstance(found, dict | list):
        yield len(found)
        for item in found.values() if isinstance(found, dict) else found:
            yield from values(item)
    elif isinstance(found, int | float) and not isinstance(found, bool):
        yield found
