"""The generated pages are those of this code and of these results, and every page stands in the site's list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.generator import settings
from docs.generator.blocks import block, replaced
from docs.generator.markdown import table
from docs.generator.pages import DOCS, PAGES
from eval.command_line import comments_of
from pipeline.config.settings import HardwareConfig


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name: str) -> None:
    written = (DOCS / name).read_text(encoding="utf-8")
    assert PAGES[name]() == written, f"docs/{name} is out of date: python -m docs.generator writes it"


def entries(nav: Any) -> Iterator[str]:
    """The files of a list of pages, at any depth."""
    if isinstance(nav, str):
        yield nav
    else:
        for item in nav.values() if isinstance(nav, dict) else nav:
            yield from entries(item)


def test_every_page_stands_in_the_list_once() -> None:
    listed = list(entries(yaml.safe_load((DOCS.parent / "mkdocs.yml").read_text())["nav"]))
    assert sorted(listed) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def test_pages_name_no_address_to_load_from() -> None:
    for path in (path for kind in ("*.svg", "*.js") for path in Path(DOCS).rglob(kind)):
        code = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http" not in code, path


def test_a_comment_becomes_the_meaning_of_its_setting() -> None:
    found = comments_of(HardwareConfig)
    assert found["backend"] == "local | ray | slurm"
    assert found["workers"].startswith("of ray: processes")  # a comment within parentheses


def test_zero_and_false_are_told_apart() -> None:
    assert [settings._shown(value) for value in (0, False, None, 1.0, True, "x")] == [
        "0",
        "false",
        "null",
        "1.0",
        "true",
        "x",
    ]


def test_a_cell_cannot_break_its_table() -> None:
    assert table(["a"], [["x | y\nz"]]).splitlines()[2] == r"| x \| y z |"


def test_a_block_is_replaced_between_its_comments() -> None:
    page = "a\n<!-- x -->\nold\n<!-- x -->\nb\n"
    assert replaced(page, "x", "new") == "a\n<!-- x -->\nnew\n<!-- x -->\nb\n"
    assert block(page, "x") == "\nold\n"
    with pytest.raises(ValueError, match="two comments"):
        block("a <!-- x --> b", "x")
