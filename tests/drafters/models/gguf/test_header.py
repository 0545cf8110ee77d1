"""Headers of GGUF files: what is told of a sound one, and every way in which one can lie."""

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drafters.models.gguf.header import read_gguf_header
from drafters.package_error import PackageError
from tests.drafters.conftest import VOCABULARY
from tests.drafters.models.gguf.gguf_files import ARRAY, STRING, UINT32, UINT64, array, plain, text, tiny

HUGE = 1 << 60


def test_a_sound_header(tmp_path: Path) -> None:
    header = read_gguf_header(tiny(tmp_path / "tiny.gguf"))
    assert (header.architecture, header.types) == ("llama", ["F32"])
    assert header.tensors["token_embd.weight"].numel == VOCABULARY * 16
    assert header.numel == sum(tensor.bytes for tensor in header.tensors.values()) // 4
    assert header.values["llama.context_length"] == 64


def head(magic: bytes = b"GGUF", version: int = 3, tensors: int = 0, keys: int = 0) -> bytes:
    return struct.pack("<4sIQQ", magic, version, tensors, keys)


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (head(b"GGML"), "GGML"),
        (head(version=1), "version 1"),
        (head(version=3 << 24), "version 50331648"),  # big-endian
        (head(tensors=HUGE, keys=21), "tensor_count"),
        (head(keys=HUGE), "metadata_kv_count"),
        (head(keys=22), "expected"),  # one more key than there is: reads the tensors' names as one
        (head(tensors=500, keys=21), "expected"),
        (b"GGUF", "at most 4 further bytes|expected"),
        (b"", "expected"),
    ],
)
def test_heads_that_lie(tmp_path: Path, first: bytes, said: str) -> None:
    path = tiny(tmp_path / "tiny.gguf")
    path.write_bytes(first + (path.read_bytes()[24:] if len(first) == 24 else b""))
    with pytest.raises(PackageError, match=said):
        read_gguf_header(path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("general.architecture", None, "model family"),
        ("general.architecture", (UINT32, plain(UINT32, 1)), "model family"),
        ("general.name", (STRING, struct.pack("<Q", HUGE)), "general.name"),
        ("general.name", (STRING, struct.pack("<Q", 1) + b"\xff"), "UTF-8"),
        ("general.name", (13, b""), "type 13"),
        ("general.name", (ARRAY, struct.pack("<IQ", STRING, HUGE)), "general.name"),
        ("general.name", (ARRAY, struct.pack("<IQ", UINT64, HUGE)), "inside the file"),
        ("general.name", (ARRAY, struct.pack("<IQ", ARRAY, 1)), "of type 9"),
        ("general.alignment", (UINT32, plain(UINT32, 0)), "power of two"),
        ("general.alignment", (UINT32, plain(UINT32, 48)), "power of two"),
        ("llama.block_count", (UINT32, plain(UINT32, 1 << 20)), "0 to 512"),
        ("llama.block_count", (STRING, text("two")), "0 to 512"),
        ("llama.feed_forward_length", array(UINT32, [24, 1 << 30]), "llama.feed_forward_length"),
        ("llama.vocab_size", (UINT32, plain(UINT32, 1 << 30)), "vocab_size"),
        ("split.count", (UINT32, plain(UINT32, 3)), "llama-gguf-split --merge"),
        ("tokenizer.ggml.tokens", None, "a tokenizer inside the file"),
        ("tokenizer.ggml.tokens", array(STRING, []), "a tokenizer inside the file"),
        ("tokenizer.ggml.model", None, "a tokenizer inside the file"),
        ("tokenizer.chat_template", (STRING, text("{% include '/etc/passwd' %}")), "stays within its conversation"),
        ("tokenizer.chat_template.tool_use", (STRING, text("{{ x.__class__ }}")), "stays within its conversation"),
    ],
)
def test_values_that_are_refused(tmp_path: Path, key: str, value: tuple[int, bytes] | None, said: str) -> None:
    with pytest.raises(PackageError, match=said) as caught:
        read_gguf_header(tiny(tmp_path / "tiny.gguf", {key: value}))
    assert caught.value.file == "tiny.gguf"
    assert caught.value.fix


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (((16,), 0, b""), "between byte|no overlaps"),  # the last one, without its data
        (((16,), 5, b"\0" * 64), "type 5"),
        (((16,), 99, b"\0" * 64), "another quantisation"),
        (((17,), 2, b"\0" * 64), "multiple of 32"),
        (((0,), 0, b""), "lengths from 1"),
        (((1 << 50,), 0, b""), "lengths from 1"),
        (((1 << 40, 1 << 40), 0, b""), "between byte|no overlaps"),
        (((1,) * 5, 0, b"\0" * 4), "at most 4"),
    ],
)
def test_tensors_that_are_refused(tmp_path: Path, stored: tuple, said: str) -> None:
    with pytest.raises(PackageError, match=said):
        read_gguf_header(tiny(tmp_path / "tiny.gguf", zz=stored))


def test_two_of_one_name(tmp_path: Path) -> None:
    path = tiny(tmp_path / "tiny.gguf")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"blk.0.attn_k.weight", b"blk.0.attn_q.weight"))
    with pytest.raises(PackageError, match="two of this name"):
        read_gguf_header(path)
    path.write_bytes(whole.replace(b"tokenizer.ggml.bos_token_id", b"tokenizer.ggml.eos_token_id"))
    with pytest.raises(PackageError, match="expected one value, got two"):
        read_gguf_header(path)


def test_two_tensors_in_one_place(tmp_path: Path) -> None:
    path = tiny(tmp_path / "tiny.gguf")
    whole = path.read_bytes()
    name = text("blk.0.attn_k.weight") + struct.pack("<I2QI", 2, 16, 16, 0)
    at = whole.index(name) + len(name)
    path.write_bytes(whole[:at] + struct.pack("<Q", 0) + whole[at + 8 :])
    with pytest.raises(PackageError, match="no overlaps"):
        read_gguf_header(path)
    path.write_bytes(whole[:at] + struct.pack("<Q", 8) + whole[at + 8 :])
    with pytest.raises(PackageError, match="a multiple of 32"):
        read_gguf_header(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_does_anything_but_be_refused(tmp_path: Path, data: st.DataObject) -> None:
    whole = tiny(tmp_path / "tiny.gguf").read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    new = data.draw(st.one_of(st.binary(min_size=1, max_size=8), st.just(struct.pack("<Q", HUGE))))
    cut = data.draw(st.sampled_from([None, at]))
    path = tmp_path / "damaged.gguf"
    path.write_bytes((whole[:at] + new + whole[at + len(new) :])[:cut])
    try:
        read_gguf_header(path)
    except PackageError as refused:
        assert refused.fix  # noqa: PT017 - most damage is refused, some of it is a sound file
