"""Errors that a user can put right have one root, so that each command catches one class."""

import ast
from pathlib import Path

import pytest

from drafters.errors import DraftersError
from pipeline.errors import ConfigError, MissingInput, PipelineError

ROOT = Path(__file__).resolve().parents[2]
INSIDE = {"NotLocal", "Abandoned"}  # signals that never leave their module's users


def errors_and_bases() -> dict[str, list[str]]:
    """Name of every exception class of the three packages -> the names of its bases."""
    found = {}
    for package in ("drafters", "eval", "pipeline"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                bases = [ast.unparse(base) for base in getattr(node, "bases", ())]
                if any(name.endswith(("Error", "Exception")) for name in bases):
                    found[node.name] = bases
    return found


def has_the_root(name: str, known: dict[str, list[str]]) -> bool:
    """Whether DraftersError is the one line of ancestors of a class."""
    return name == "DraftersError" or (len(bases := known.get(name, [])) == 1 and has_the_root(bases[0], known))


def test_every_error_descends_from_the_one_root_alone():
    known = errors_and_bases()
    assert len(known) > 20
    assert [name for name in known if name not in INSIDE and not has_the_root(name, known)] == []


def test_a_second_root_would_be_seen():
    known = errors_and_bases() | {"Other": ["Exception"], "Both": ["DraftersError", "ValueError"]}
    assert [name for name in ("Other", "Both", "PairError") if not has_the_root(name, known)] == ["Other", "Both"]


@pytest.mark.parametrize("kind", [PipelineError, ConfigError, MissingInput])
def test_a_mistake_in_a_program_is_none_of_them(kind):
    assert issubclass(kind, DraftersError)
    assert not issubclass(kind, ValueError)
