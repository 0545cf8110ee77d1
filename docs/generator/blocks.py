"""Parts of hand-written pages that follow from elsewhere, between two equal comments: <!-- results --> ... <!-- results -->."""

from __future__ import annotations

from pathlib import Path

from docs.generator.results.summary import summary

ROOT = Path(__file__).resolve().parents[2]


def block(text: str, name: str) -> str:
    """What stands between the two comments of that name. Raises ValueError unless there are exactly two."""
    return _parts(text, name)[1]


def replaced(text: str, name: str, new: str) -> str:
    """The text with another block of that name."""
    before, _, after = _parts(text, name)
    mark = f"<!-- {name} -->"
    return f"{before}{mark}\n{new}\n{mark}{after}"


def readme() -> str:
    """README.md with the table of results."""
    return replaced((ROOT / "README.md").read_text(encoding="utf-8"), "results", summary())


def quickstart() -> str:
    """docs/quickstart.md with the demo's screen of README.md."""
    own = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    screen = block((ROOT / "README.md").read_text(encoding="utf-8"), "demo").strip("\n")
    return replaced(own, "demo", screen)


def _parts(text: str, name: str) -> list[str]:
    parts = text.split(f"<!-- {name} -->")
    if len(parts) != 3:
        raise ValueError(f"expected two comments <!-- {name} --> around the block, got {len(parts) - 1}")
    return parts
