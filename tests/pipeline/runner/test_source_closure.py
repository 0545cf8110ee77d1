"""The source closure holds exactly the code that can run, and its hash changes with code and with nothing else."""

from pathlib import Path

import pytest

from drafters.io.paths import REPOSITORY
from pipeline.runner.source_closure import PLUMBING, closure, closure_hash, locate

TREE = {
    "lib/__init__.py": "",
    "lib/stage.py": "import lib.direct\nfrom lib.pack import module\nfrom .near import f\n"
    "def run():\n    from lib import late\n"
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lib import typed\nelse:\n    import lib.untyped\n",
    "lib/direct.py": "import os, other, torch\n",
    "lib/near.py": "from lib.direct import os\ndef f(): pass\n",
    "lib/late.py": "from lib import stage\n",
    "lib/typed.py": "",
    "lib/untyped.py": "",
    "lib/unrelated.py": "",
    "lib/pack/__init__.py": "from . import sibling\nfrom .. import deep_up\n",
    "lib/pack/module.py": "from ..outer import value\n",
    "lib/pack/sibling.py": "",
    "lib/pack/unrelated.py": "",
    "lib/outer.py": "value = 1\n",
    "lib/deep_up.py": "",
    "other.py": "",
}
EXPECTED = ["lib", "lib.deep_up", "lib.direct", "lib.late", "lib.near", "lib.outer", "lib.pack", "lib.pack.module"]
EXPECTED += ["lib.pack.sibling", "lib.stage", "lib.untyped"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, source in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    return tmp_path


def digest(tree: Path) -> str:
    return closure_hash("lib.stage", tree, ("lib",))


def test_every_kind_of_import_is_followed_and_nothing_else(tree: Path) -> None:
    assert closure("lib.stage", tree, ("lib",)) == EXPECTED


@pytest.mark.parametrize("name", [name for name in TREE if name.endswith(".py")])
def test_hash_changes_exactly_with_the_files_of_the_closure(tree: Path, name: str) -> None:
    before = digest(tree)
    with open(tree / name, "a") as stream:
        stream.write("\nchanged = 1\n")
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert (digest(tree) != before) == (module in EXPECTED)


@pytest.mark.parametrize(
    "source",
    [
        "value = 1  # a comment\n",
        '"""A docstring."""\n\nvalue = (\n    1\n)\n',
        "value=1",
    ],
)
def test_comments_docstrings_and_format_do_not_count(tree: Path, source: str) -> None:
    before = digest(tree)
    (tree / "lib/outer.py").write_text(source)
    assert digest(tree) == before


@pytest.mark.parametrize(
    "source", ["value = 2\n", "value = True\n", "value = 1.0\n", "value = '1'\n", "valu = 1\n", ""]
)
def test_code_counts(tree: Path, source: str) -> None:
    before = digest(tree)
    (tree / "lib/outer.py").write_text(source)
    assert digest(tree) != before


GOLDEN = """
async def f(a, /, *b, c: int = 1, **d) -> str:
    "Doc."
    return f'{a!r:>{c}} {b}' if (e := d) else None

class A(f):
    x: int
    y = [*f, -1, 1e9, b'x', ...]
"""


def test_hash_is_the_same_under_every_python(tmp_path: Path) -> None:
    (tmp_path / "golden.py").write_text(GOLDEN)
    expected = "cc6acaa0dc2468aa2e35a009009951ad8bdd4a3078c14a98694bf64fc5be70a7"
    assert closure_hash("golden", tmp_path, ("golden",)) == expected


def test_a_module_that_moves_changes_the_hash(tree: Path) -> None:
    before = digest(tree)
    (tree / "lib/outer.py").rename(tree / "lib/inner.py")
    (tree / "lib/pack/module.py").write_text("from ..inner import value\n")
    assert digest(tree) != before


def test_unknown_module_is_named(tree: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"lib\.nothing"):
        closure("lib.nothing", tree, ("lib",))


def test_the_runner_is_outside_every_real_stage() -> None:
    found = closure("pipeline.stages.pretrain")
    assert "pipeline.stages.pretrain" in found
    assert not PLUMBING & set(found)
    assert "pipeline.runner.runner" not in found
    assert all(locate(name, REPOSITORY) for name in PLUMBING)


def test_settings_that_stages_share_do_not_tie_their_keys_together() -> None:
    """Who reads a suite or a cluster's settings in the same module must not lose what prune made when a server changes."""
    found = closure("pipeline.stages.prune")
    statistics = {"eval.stats", "eval.stats.clustered"}  # of what prune says about text that it has not seen
    others = ("drafters.distributed", "eval.", "pipeline.text")
    assert not [name for name in set(found) - statistics if name.startswith(others)]
