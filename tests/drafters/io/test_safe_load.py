"""safe_load refuses or reads; nothing else ever comes out of bytes that someone made up."""

import contextlib
import json
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load, save, save_file

from drafters.io.model_json import _repeats_a_repetition
from drafters.io.safe_load import list_files, locate, read_header, read_json, read_tensors
from drafters.package_error import PackageError

SCALAR = st.none() | st.booleans() | st.integers(-2, 1 << 50) | st.floats(allow_nan=False) | st.text(max_size=5)
ENTRY = st.fixed_dictionaries({
    "dtype": st.sampled_from(["F32", "I64", "BOOL", "F8_E4M3", "F4", "x"]) | SCALAR,
    "shape": st.lists(st.integers(0, 3), max_size=3) | st.lists(SCALAR, max_size=2) | SCALAR,
    "data_offsets": st.lists(st.integers(0, 24), min_size=2, max_size=2) | SCALAR,
})  # fmt: skip
HEADER = st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), ENTRY | SCALAR, max_size=3)


@settings(max_examples=150, deadline=None)
@given(header=HEADER, data=st.binary(max_size=24))
def test_a_header_we_pass_is_one_that_safetensors_reads_alike(header, data, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + data
    (folder / "x.safetensors").write_bytes(content)
    try:
        infos = read_header(folder, "x.safetensors")
    except PackageError:
        return
    try:
        tensors = load(content)
    except SafetensorError:
        pytest.fail(f"passed what safetensors refuses: {header}")
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {n: i.shape for n, i in infos.items()}


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=60))
def test_random_bytes_are_refused_or_read(content, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    (folder / "x").write_bytes(content)
    for reader in (read_header, read_json):
        with contextlib.suppress(PackageError):
            reader(folder, "x")


def test_what_safetensors_writes_is_read(tmp_path):
    tensors = {
        "a": torch.arange(6).reshape(2, 3), "b": torch.zeros(0, 3), "c": torch.tensor(True),
        "d": torch.ones(3, dtype=torch.bfloat16), "e": torch.ones(2).to(torch.float8_e4m3fn),
    }  # fmt: skip
    save_file(tensors, tmp_path / "x", metadata={"format": "pt"})
    assert {name: info.shape for name, info in read_header(tmp_path, "x").items()} == {
        name: tuple(tensor.shape) for name, tensor in tensors.items()
    }
    assert torch.equal(read_tensors(tmp_path, "x")["a"], tensors["a"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_not_a_number_in_every_dtype(tmp_path, dtype):
    (tmp_path / "x").write_bytes(save({"a": torch.tensor([1.0, torch.nan]).to(dtype)}))
    with pytest.raises(PackageError, match="x: a: expected finite numbers"):
        read_tensors(tmp_path, "x")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/../../x", "/etc/passwd", "a//b", "a\\b", "C:x", "a\0b", "./x", "~/../x"]
)
def test_names_that_leave_the_folder(tmp_path, name):
    with pytest.raises(PackageError) as caught:
        locate(tmp_path, name)
    assert caught.value.field == "name"


def test_links_inside_the_folder_are_followed_and_loops_are_not(tmp_path):
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "loop").symlink_to("loop")
    assert locate(tmp_path, "link").read_text() == "x"
    with pytest.raises(PackageError, match="no such file"):
        locate(tmp_path, "loop")
    with pytest.raises(PackageError, match="loop"):
        list_files(tmp_path)


def test_a_hub_snapshot_may_link_to_its_repositorys_blobs_only(tmp_path):
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / ("0" * 40), tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "1").write_text('{"a": 1}')
    (snapshot / "config.json").symlink_to("../../blobs/1")
    (tmp_path / "secret").write_text("{}")
    (snapshot / "other.json").symlink_to("../../../secret")
    assert read_json(snapshot, "config.json", root=tmp_path / "models--a--b") == {"a": 1}
    for name, root in (("config.json", None), ("other.json", tmp_path / "models--a--b")):
        with pytest.raises(PackageError, match="link"):
            read_json(snapshot, name, root=root)


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a*)*", "((a+)b?)+", "(?:x+){2,}", "(a|b+)*c", "([a-z]+)+", "(\\p{L}+)*"]
)
def test_patterns_that_can_hang(pattern):
    assert _repeats_a_repetition(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\s+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*",
        r"\(+\)+|(ab)+|(a{2})+",
    ],
    ids=["gpt2", "llama3", "gpt4o", "deepseek", "plain"],
)
def test_patterns_in_use_pass(pattern):
    assert not _repeats_a_repetition(pattern)
