"""`python -m eval`: one grammar for every command, help from the options' comments, and errors that name the nearest word."""

from __future__ import annotations

import enum
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import get_type_hints

import pytest

from drafters.errors import DraftersError
from drafters.io.paths import REPOSITORY
from eval import __main__ as cli
from eval.command_line import OptionError, comments_of, describe_options, read_options
from tests.metrics import is_entry_point, read


class Colour(enum.Enum):
    """Two of them."""

    red = "red"
    green = "green"


@dataclass
class Options:
    """One of every kind."""

    place: Path  # where it is
    colour: Colour = Colour.red  # red or green
    sizes: list[int] = field(default_factory=lambda: [1, 2])  # numbers of them
    names: list[str] = field(default_factory=list)
    share: float = 0.5
    # of the work; 0: none
    rounds: int = 3
    fast: bool = False
    text: str = ""


def test_words_become_options_of_their_types() -> None:
    assert read_options(Options, ["there"]) == Options(Path("there"))
    words = ["place=a=b", "colour=green", "sizes=[3,4]", "names=x,y", "share=1", "rounds=7", "fast=true", "text=007"]
    made = Options(Path("a=b"), Colour.green, [3, 4], ["x", "y"], 1.0, 7, True, "007")
    assert read_options(Options, words) == made
    assert read_options(Options, ["a", "sizes=5", "names=", "text="]) == Options(Path("a"), sizes=[5])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a", "round=4"], r"round=4: expected one of place=, .*; did you mean rounds=\?"),
        (["a", "rounds=many"], "rounds=many: expected a whole number"),
        (["a", "rounds=1.5"], "rounds=1.5: expected a whole number"),
        (["a", "sizes=1,x"], "sizes=1,x: expected a whole number, or some with commas between"),
        (["a", "share=most"], "share=most: expected a number"),
        (["a", "fast=perhaps"], "fast=perhaps: expected true or false"),
        (["a", "colour=gren"], r"colour=gren: expected one of red, green; did you mean green\?"),
        (["a", "b"], "b: expected one of place="),
        ([], "place=: expected a path, got nothing"),
    ],
)
def test_a_wrong_word_is_named_with_what_was_expected(words: list[str], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        read_options(Options, words)


def test_help_is_made_from_comments() -> None:
    assert comments_of(Options) == {
        "place": "where it is",
        "colour": "red or green",
        "sizes": "numbers of them",
        "names": "",
        "share": "",
        "rounds": "of the work; 0: none",
        "fast": "",
        "text": "",
    }
    assert describe_options(Options)[:3] == [
        "  place=...   where it is",
        "  colour=red  red or green",
        "  sizes=1,2   numbers of them",
    ]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_options_that_its_help_explains(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    kind = get_type_hints(import_module(cli.COMMANDS[name]).main)["options"]
    unexplained = {item for item, comment in comments_of(kind).items() if not comment} - {
        "seed",
        "threads",
        "device",
        "prompts",
    }
    assert unexplained == set()
    assert all(f"\n  {item}=" in shown for item in comments_of(kind))
    assert shown.startswith(f"usage: python -m eval {name} ")


def test_what_a_command_returns_and_raises_is_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Options] = []

    def main(options: Options) -> int:
        seen.append(options)
        if options.text:
            raise DraftersError("no such thing")
        return options.rounds

    monkeypatch.setattr(cli, "COMMANDS", {"do": "some.module", "bench": "b", "bench engine": "c"})
    monkeypatch.setattr(cli, "import_module", lambda name: SimpleNamespace(main=main))
    assert cli.main(["do", "x", "rounds=1"]) == 1
    assert seen == [Options(Path("x"), rounds=1)]
    assert cli.main(["do", "x", "text=y"]) == 2
    assert capsys.readouterr().err == "error: no such thing\n"
    assert cli.main(["do", "x", "roudns=1"]) == 2
    assert "did you mean rounds=?\n  the options: python -m eval do --help" in capsys.readouterr().err
    assert cli.main(["od"]) == 2
    assert "expected one of do, bench" in capsys.readouterr().err
    assert cli.main(["bench", "engnie"]) == 2
    assert "did you mean bench engine?" in capsys.readouterr().err
    assert cli.split_command(["bench", "engine", "a=1"]) == ("bench engine", ["a=1"])
    assert cli.split_command(["bench", "only=engine"]) == ("bench", ["only=engine"])


def test_the_overview_imports_no_command() -> None:
    code = "import sys, eval.__main__ as m; print(m.overview()); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in cli.COMMANDS)


def test_there_are_two_entry_points() -> None:
    modules = [module for top in ("drafters", "eval", "pipeline") for module in read(REPOSITORY, top)]
    assert [module.name for module in modules if is_entry_point(module)] == ["eval.__main__", "pipeline.__main__"]
