"""Parts of hand-written pages that follow from elsewhere, between two equal comments: <!-- results --> ... <!-- results -->."""

from __future__ import annotations

from docs.generator.results.summary import summary
from drafters.io.paths import REPOSITORY


def block(text: str, name: str) -> str:
    """What stands between the two comments of that name. Raises ValueError unless there are exactly two."""
    return _parts(text, name)[1]


def replaced(text: str, name: str, new: str) -> str:
    """The text with another block of that name."""
    before, _, after = _parts(text, name)
    mark = f"<!-- {name} -->"
    return f"{before}{mark}\n{new}\n{mark}{after}"


def readme() -> str:
    """README.md with the table of results and an excerpt of the demo's screen."""
    own = replaced((REPOSITORY / "README.md").read_text(encoding="utf-8"), "results", summary())
    return replaced(own, "demo", _fenced(excerpt(screen())))


def quickstart() -> str:
    """docs/quickstart.md with the demo's screen."""
    return replaced((REPOSITORY / "docs" / "quickstart.md").read_text(encoding="utf-8"), "demo", _fenced(screen()))


def screen() -> list[str]:
    """The lines that `make demo` printed, progress left out: docs/demo.txt, put there by hand from a run on an idle machine."""
    return (REPOSITORY / "docs" / "demo.txt").read_text(encoding="utf-8").splitlines()


def excerpt(lines: list[str]) -> list[str]:
    """The stages that give mass back, the table's head and its rows of temperature 1, and the verdict."""
    begin, end = (next(n for n, line in enumerate(lines) if line.startswith(mark)) for mark in ("AR: ", "What to use"))
    head = next(n for n, line in enumerate(lines) if line.startswith("T sampler"))
    stages = [line for line in lines[:head] if line.startswith(("prune ", "affinity ", "tail "))]
    rows = [line for line in lines[head + 2 : begin] if line.startswith("1 ")]
    return [*stages, *lines[head - 1 : head + 2], *rows, *lines[end : end + 3]]


def _fenced(lines: list[str]) -> str:
    return "\n".join(["```", *lines, "```"])


def _parts(text: str, name: str) -> list[str]:
    parts = text.split(f"<!-- {name} -->")
    if len(parts) != 3:
        raise ValueError(f"expected two comments <!-- {name} --> around the block, got {len(parts) - 1}")
    return parts
