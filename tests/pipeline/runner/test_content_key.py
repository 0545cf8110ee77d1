"""A content key changes if, and only if, something changes that decides the output."""

import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError
from pipeline.runner.content_key import DIGITS, content_key, external_hash, tree_hash

REVISION = "0123456789abcdef0123456789abcdef01234567"


def test_key_is_stable_hex(toys: Any) -> None:
    key = toys.key("total")
    assert key == toys.key("total")
    assert len(key) == DIGITS
    assert int(key, 16) >= 0


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ("numbers.count=5", {"numbers", "shards", "total"}),  # its own settings, and so all that reads it
        ("shards.unit=y", {"shards", "total"}),
        ("shards.fail_at=1", set()),  # not in what the stage says its output depends on
        ("total.new=1", {"total"}),
        ("threads=2", {"total"}),  # only total measures
        ("dtype=bf16", {"total"}),
        ("runs_dir=elsewhere", set()),
        ("journal=elsewhere", set()),
    ],
)
def test_settings(toys: Any, change: str, changed: set[str]) -> None:
    assert {stage for stage in ("numbers", "shards", "total") if toys.key(stage, change) != toys.key(stage)} == changed


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("arithmetic", {"numbers", "shards", "total"}),
        ("stages/shards", {"shards", "total"}),
        ("unrelated", set()),
    ],
)
def test_source(toys: Any, name: str, changed: set[str]) -> None:
    before = {stage: toys.key(stage) for stage in ("numbers", "shards", "total")}
    path = toys.root / toys.package / f"{name}.py"
    path.write_text(path.read_text() + "\n# a comment\n")
    assert {stage: toys.key(stage) for stage in before} == before
    path.write_text(path.read_text() + "\nanother = 1\n")
    assert {stage for stage in before if toys.key(stage) != before[stage]} == changed


def test_external_content_counts_and_its_place_and_age_do_not(toys: Any) -> None:
    before = toys.key("total")
    seeds = toys.root / "seeds"
    os.utime(seeds, (1, 1))
    moved = seeds.rename(toys.root / "moved")
    assert toys.key("total", f"seeds={moved}") == before
    moved.write_text("8")
    assert toys.key("total", f"seeds={moved}") != before
    pinned = toys.key("total", f"seeds=org/name@{REVISION}")
    assert pinned not in (before, toys.key("total", f"seeds=org/name@{REVISION[::-1]}"))


@pytest.mark.parametrize("where", ["org/name", "org/name@main", f"org/name@{REVISION[:-1]}", "no/such/folder", ""])
def test_unpinned_or_absent_external_is_refused(toys: Any, where: str) -> None:
    with pytest.raises(ConfigError, match=r"seeds: expected an existing local path, or a name on the Hub"):
        external_hash("seeds", where)


def test_measuring_key_describes_the_machine(toys: Any) -> None:
    machine = toys.runner().plan("total").parts["machine"]
    assert {"device": "cpu", "dtype": "auto", "threads": 1}.items() <= machine.items()
    assert {"device_name", "python", "platform", "torch"} <= machine.keys()
    assert "machine" not in toys.runner().plan("shards").parts


def test_order_of_settings_does_not_count_and_their_values_must_be_json() -> None:
    assert content_key({"a": 1, "b": {"c": 2, "d": 3}}) == content_key({"b": {"d": 3, "c": 2}, "a": 1})
    assert content_key({"stage": "s", "config": {"a": 1}}) != content_key({"stage": "s", "config": {"a": 1.0}})
    for value in (float("nan"), float("inf"), object(), {1, 2}):
        with pytest.raises(ConfigError, match=r"s: .*JSON"):
            content_key({"stage": "s", "config": {"a": value}})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    (root / "sub").mkdir(parents=True)
    (root / "a").write_text("1")
    (root / "sub/b").write_text("2")
    return root


def test_tree_hash_of_a_copy_is_equal(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (copy / "sub").mkdir(parents=True)
    (copy / "sub/b").write_text("2")
    (copy / "a").write_text("1")
    assert tree_hash(copy) == tree_hash(folder)


@pytest.mark.parametrize("change", ["content", "name", "swap", "extra", "fewer"])
def test_tree_hash_changes_with_names_and_contents(folder: Path, change: str) -> None:
    before = tree_hash(folder)
    match change:
        case "content":
            (folder / "sub/b").write_text("3")
        case "name":
            (folder / "sub/b").rename(folder / "sub/c")
        case "swap":
            (folder / "a").write_text("2")
            (folder / "sub/b").write_text("1")
        case "extra":
            (folder / "sub/empty").touch()
        case "fewer":
            (folder / "a").unlink()
    assert tree_hash(folder) != before


def test_hidden_files_do_not_count_and_links_are_followed(folder: Path, tmp_path: Path) -> None:
    before = tree_hash(folder)
    (folder / ".cache").mkdir()
    (folder / ".cache/x").write_text("x")
    (folder / ".hidden").write_text("x")
    assert tree_hash(folder) == before
    (folder / "a").rename(tmp_path / "blob")
    (folder / "a").symlink_to(tmp_path / "blob")  # as the Hub's cache does
    assert tree_hash(folder) == before
    (folder / "sub/loop").symlink_to(folder)
    assert tree_hash(folder) == before


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="empty folder"):
        tree_hash(tmp_path)
