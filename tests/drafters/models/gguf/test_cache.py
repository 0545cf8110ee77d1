"""A converted GGUF is found again by its content, converted once, and never taken for whole before it is."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drafters.io.manifest import file_sha256, write_manifest
from drafters.models.gguf import cache, convert
from drafters.models.gguf.cache import find_model, is_gguf, resolve_model, steps
from drafters.models.model_folder import PATTERNS
from drafters.models.pair import load_pair
from drafters.package_error import PackageError
from tests.drafters.conftest import make_model, make_tokenizer
from tests.drafters.models.gguf.gguf_files import tiny

REPOSITORY = Path(__file__).resolve().parents[4]


def drive(folder: Path, *mutant: str) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).with_name("kill_driver.py")), str(folder), *mutant]
    done = subprocess.run(
        command,
        env={"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_killed_at_every_change_of_the_file_system(tmp_path: Path) -> None:
    found = drive(tmp_path)
    assert found.pop("killed") > 12
    assert found == {"incomplete": 0, "left": 0, "conversions": 1}  # of three processes at once, one converted


def test_planted_bug_a_folder_with_its_name_before_it_is_whole_is_caught(tmp_path: Path) -> None:
    assert drive(tmp_path, "in_place")["incomplete"] > 0


@pytest.fixture
def converting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A cache of its own, and a conversion that writes the tiny model; the folders it wrote."""
    wrote: list[Path] = []

    def double(file: Path, header: object, key: str, out: Path) -> None:
        wrote.append(out)
        make_model().save_pretrained(out)
        make_tokenizer().save_pretrained(out)
        write_manifest(out, kind="model", key=key, config={}, inputs={})

    monkeypatch.setenv("DRAFTERS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "check_installed", lambda name: None)
    monkeypatch.setattr(cache, "converters", lambda: {"transformers": "1"})
    monkeypatch.setattr(cache, "convert", double)
    return wrote


def test_a_pair_of_gguf_files(tmp_path: Path, converting: list[Path]) -> None:
    file = tiny(tmp_path / "tiny.gguf")
    assert len(steps(file)) == 1
    assert str(tmp_path / "cache") in steps(file)[0]
    pair = load_pair(target=file, drafter=str(file), device="cpu")
    assert len(converting) == 1
    assert steps(file) == []
    assert pair.ids == (str(file), str(file))
    assert pair.revisions[0] == f"sha256:{file_sha256(file)}"
    assert find_model(file) == Path(pair.target.name_or_path)
    moved = file.rename(tmp_path / "other.gguf")
    assert resolve_model(moved, None, PATTERNS, "").revision == pair.revisions[0]


def test_other_content_or_other_converters_are_another_folder(
    tmp_path: Path, converting: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tiny(tmp_path / "tiny.gguf")
    first = resolve_model(file, None, PATTERNS, "").folder
    monkeypatch.setattr(cache, "converters", lambda: {"transformers": "2"})
    second = resolve_model(file, None, PATTERNS, "").folder
    tiny(file, {"general.name": None})
    third = resolve_model(file, None, PATTERNS, "").folder
    assert len({first, second, third}) == len(converting) == 3


def test_a_damaged_folder_is_made_again(tmp_path: Path, converting: list[Path]) -> None:
    file = tiny(tmp_path / "tiny.gguf")
    folder = resolve_model(file, None, PATTERNS, "").folder
    before = file_sha256(weights := folder / "model.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert resolve_model(file, None, PATTERNS, "").folder == folder
    assert (file_sha256(weights), len(converting)) == (before, 2)


def test_a_file_that_changes_meanwhile_is_refused(
    tmp_path: Path, converting: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, double = tiny(tmp_path / "tiny.gguf"), cache.convert

    def slow(*arguments: Any) -> None:
        double(*arguments)
        tiny(file, {"general.name": None})

    monkeypatch.setattr(cache, "convert", slow)
    with pytest.raises(PackageError, match="changed meanwhile"):
        resolve_model(file, None, PATTERNS, "")
    assert not [path for path in (tmp_path / "cache" / "gguf").iterdir() if path.is_dir()]


def test_what_names_a_gguf(tmp_path: Path) -> None:
    (tmp_path / "folder.gguf").mkdir()
    assert not is_gguf(tmp_path / "folder.gguf")
    assert not is_gguf("org/name")
    assert is_gguf("models/x.gguf")
    with pytest.raises(PackageError, match=r"missing\.gguf: path: expected a GGUF file, got no such file\. Give it"):
        resolve_model("missing.gguf", None, PATTERNS, "Give it.")
    with pytest.raises(PackageError, match=r"expected a \.gguf file of the wheel"):
        resolve_model("pypi:name==1/name/x.bin", None, PATTERNS, "")


def test_without_what_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PackageError, match=r"gguf and accelerate .* no gguf\. pip install 'drafters\[gguf\]'"):
        resolve_model(tiny(tmp_path / "tiny.gguf"), None, PATTERNS, "")


def test_a_folder_that_holds_one_names_it(tmp_path: Path) -> None:
    file = tiny(tmp_path / "tiny.gguf")
    with pytest.raises(PackageError, match="Give the file itself instead of its folder") as caught:
        load_pair(target=tmp_path, drafter=tmp_path, device="cpu")
    assert str(file) in str(caught.value)
