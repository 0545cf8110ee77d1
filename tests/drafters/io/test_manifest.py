"""A manifest vouches for its directory: whatever is wrong with a file or with the manifest itself is found and
named."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from drafters.io import manifest as m

FILES = {"a.bin": b"alpha", "folder/b.json": b"{}", "folder/deep/empty": b""}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    m.write_manifest(tmp_path, kind="toy", key="k" * 16, config={"n": 1}, inputs={"count": "c" * 16}, extra={"x": 1})
    return tmp_path


def edit(directory: Path, **changes: object) -> None:
    path = directory / m.NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_round_trip_lists_every_file_with_size_and_hash(made: Path) -> None:
    read = m.read_manifest(made)
    expected = {name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in FILES.items()}
    assert read.files == expected
    assert (read.kind, read.key, read.config, read.inputs) == ("toy", "k" * 16, {"n": 1}, {"count": "c" * 16})
    assert read.extra == {"x": 1}
    assert read.format_version == 1


def test_chosen_files_only(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("1")
    (tmp_path / "out").write_text("2")
    written = m.write_manifest(tmp_path, kind="toy", key="k", config={}, inputs={}, files=["in"])
    assert list(written.files) == ["in"]
    assert list(m.read_manifest(tmp_path).files) == ["in"]


def test_nothing_of_the_machine_is_recorded(made: Path) -> None:
    text = (made / m.NAME).read_text()
    assert str(made) not in text
    assert str(Path(m.__file__).parents[2]) not in text
    assert os.uname().nodename not in json.dumps(json.loads(text)["versions"])
    assert {"python", "platform", "torch", "transformers"} <= json.loads(text)["versions"].keys()


@pytest.mark.parametrize("name", FILES)
def test_bit_flip_is_found(made: Path, name: str) -> None:
    m.read_manifest(made)  # the unharmed digests are now remembered
    data = bytearray(FILES[name] or b"?")
    data[0] ^= 1
    (made / name).write_bytes(data)
    expected = "sha256" if FILES[name] else "expected 0 bytes, got 1"
    with pytest.raises(m.ManifestError, match=expected) as caught:
        m.read_manifest(made)
    assert name in str(caught.value)


def test_bit_flip_that_keeps_the_modification_time_is_found(made: Path) -> None:
    before = os.stat(made / "a.bin")
    m.read_manifest(made)
    (made / "a.bin").write_bytes(b"alphb")
    os.utime(made / "a.bin", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(m.ManifestError, match="sha256"):
        m.read_manifest(made)


def test_without_verification_sizes_still_count_and_bytes_do_not(made: Path) -> None:
    (made / "a.bin").write_bytes(b"alphb")
    m.read_manifest(made, verify=False)
    (made / "a.bin").write_bytes(b"alph")
    with pytest.raises(m.ManifestError, match="expected 5 bytes, got 4"):
        m.read_manifest(made, verify=False)


def test_missing_file_and_link_are_refused(made: Path) -> None:
    (made / "a.bin").rename(made / "elsewhere")
    with pytest.raises(m.ManifestError, match=r"a\.bin.*not a regular file"):
        m.read_manifest(made)
    (made / "a.bin").symlink_to(made / "elsewhere")
    with pytest.raises(m.ManifestError, match=r"a\.bin.*not a regular file"):
        m.read_manifest(made)
    with pytest.raises(m.ManifestError, match="symbolic link"):
        m.write_manifest(made, kind="toy", key="k", config={}, inputs={})


def test_file_outside_the_directory_is_refused(made: Path, tmp_path: Path) -> None:
    digest = {"sha256": hashlib.sha256(b"").hexdigest(), "size": 0}
    for name in ("../x", "/etc/hostname", "a/../../x", "", "a\\b", m.NAME):
        edit(made, files={name: digest})
        with pytest.raises(m.ManifestError, match="not a path inside"):
            m.read_manifest(made)
        with pytest.raises(m.ManifestError, match="not a path inside"):
            m.write_manifest(made, kind="toy", key="k", config={}, inputs={}, files=[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format_version 2, this Drafters reads up to 1: upgrade"),
        ({"format_version": "1"}, "expected a whole number"),
        ({"format_version": True}, "expected a whole number"),
        ({"format_version": 0}, "expected a whole number"),
        ({"kind": 3}, "kind: expected str, got int"),
        ({"inputs": []}, "inputs: expected dict, got list"),
        ({"files": {"a.bin": {"size": 5}}}, r"files\['a.bin'\]: expected"),
        ({"files": {"a.bin": {"sha256": "0" * 63, "size": 5}}}, "64 hex digits"),
        ({"files": {"a.bin": {"sha256": "0" * 64, "size": -1}}}, "expected"),
        ({"files": {"a.bin": {"sha256": "0" * 64, "size": True}}}, "expected"),
    ],
)
def test_malformed_contents_are_named(made: Path, changes: dict[str, object], message: str) -> None:
    edit(made, **changes)
    with pytest.raises(m.ManifestError, match=message) as caught:
        m.read_manifest(made)
    assert str(made / m.NAME) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\udcff", "[" * 100_000])
def test_what_is_not_a_json_object_is_refused(made: Path, text: str) -> None:
    (made / m.NAME).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(m.ManifestError, match=r"expected (JSON|a JSON object)"):
        m.read_manifest(made)


def test_absent_and_oversized_manifests_are_refused(made: Path) -> None:
    with open(made / m.NAME, "ab") as stream:
        stream.truncate(m.SIZE_LIMIT + 1)
    with pytest.raises(m.ManifestError, match="at most"):
        m.read_manifest(made)
    (made / m.NAME).unlink()
    with pytest.raises(m.ManifestError, match="no manifest"):
        m.read_manifest(made)


def test_manifest_appears_after_every_file_and_folder_was_flushed(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: set[int] = set()
    at_rename: list[set[int]] = []
    sync, replace = os.fsync, os.replace

    def record_sync(descriptor: int) -> None:
        flushed.add(os.fstat(descriptor).st_ino)
        sync(descriptor)

    def record_replace(source: Path, target: Path) -> None:
        at_rename.append(set(flushed))
        replace(source, target)

    (made / m.NAME).unlink()
    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "replace", record_replace)
    m.write_manifest(made, kind="toy", key="k", config={}, inputs={})
    needed = [made, made / "folder", made / "folder/deep", *(made / name for name in FILES), made / m.NAME]
    assert [os.stat(path).st_ino for path in needed if os.stat(path).st_ino not in at_rename[0]] == []
    assert len(at_rename) == 1


def test_failure_before_the_end_leaves_no_manifest(made: Path) -> None:
    (made / m.NAME).unlink()
    with pytest.raises(m.ManifestError):
        m.write_manifest(made, kind="toy", key="k", config={}, inputs={}, files=["a.bin", "zzz"])
    with pytest.raises(ValueError, match="JSON compliant"):
        m.write_manifest(made, kind="toy", key="k", config={"n": float("nan")}, inputs={})
    assert not (made / m.NAME).exists()
