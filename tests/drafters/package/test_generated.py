"""A thousand generated files, and payloads that would run code: a typed error each, quickly, and nothing runs."""

import json
import os
import shutil
import struct
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drafters.io import secrets
from drafters.io.hub import Source
from drafters.io.json_rules import check_description, check_stop_config
from drafters.io.model_json import check_patterns
from drafters.io.safe_load import read_header, read_json, read_tensors
from drafters.models.model_folder import check_model_folder
from drafters.package.inspection import inspect_folder
from drafters.package.integrity import verify
from drafters.package.reader import load
from drafters.package_error import PackageError

SECONDS = 1.0  # of the processor: a busy machine is not a slow answer

# Values that a reader may act on, mixed into otherwise plausible files.
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12), st.sampled_from(["../../etc/passwd", "\x1b[2J", "__main__", "${oc.env:HOME}", "evil.Model", "F32"]),
    st.lists(st.integers(-3, 1 << 62), max_size=4), st.dictionaries(st.text(max_size=6), st.integers(), max_size=3),
)  # fmt: skip
HEADER = st.dictionaries(
    st.one_of(st.sampled_from(["kept", "to_target", "to_drafter", "__metadata__", "ids"]), st.text(max_size=6)),
    st.one_of(
        st.fixed_dictionaries(
            {
                "dtype": st.one_of(st.sampled_from(["F32", "I64", "BF16", "BOOL", "U64", "object"]), ODD),
                "shape": st.one_of(st.lists(st.integers(-1, 1 << 50), max_size=4), ODD),
                "data_offsets": st.one_of(st.lists(st.integers(-4, 1 << 50), min_size=2, max_size=2), ODD),
            }
        ),
        ODD,
    ),
    max_size=4,
)
# allow_nan: Python's json writes NaN and Infinity, and readers must refuse them.
TEXT = st.one_of(st.binary(max_size=60), ODD.map(lambda value: json.dumps(value).encode()))


@pytest.fixture(scope="module")
def parsed(original) -> dict[str, dict]:
    return {
        name: json.loads((original / name).read_text())
        for name in ("drafters.json", "stop/config.json", "manifest.json", "config.json", "tokenizer.json")
    }


def refused_or_valid(act) -> bool:
    """True if ``act`` refused; any other error, or a slow answer, fails the test."""
    begun = time.process_time()
    try:
        act()
    except PackageError as caught:
        error: PackageError | None = caught
    else:
        error = None
    assert time.process_time() - begun < SECONDS
    if error is not None:
        assert error.file
        assert error.field
        assert str(error).isprintable(), "terminal escapes in the names of tensors and keys"
        assert len(str(error)) < 2000
    return error is not None


many = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@many
@given(header=HEADER, data=st.binary(max_size=32), length=st.one_of(st.none(), st.integers(0, 1 << 64 - 1)))
def test_250_tensor_files(tmp_path_factory, header, data, length):
    text = json.dumps(header).encode()
    size = len(text) if length is None else length % (1 << 64)
    folder = tmp_path_factory.mktemp("tensors", numbered=True)
    (folder / "x.safetensors").write_bytes(struct.pack("<Q", size) + text + data)
    refused_or_valid(lambda: read_header(folder, "x.safetensors"))
    assert refused_or_valid(lambda: read_tensors(folder, "x.safetensors", ("kept", "to_target", "to_drafter")))


@many
@given(content=TEXT)
def test_250_files_that_may_not_be_json(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("json", numbered=True)
    (folder / "x.json").write_bytes(content)
    refused_or_valid(lambda: read_json(folder, "x.json"))


def mutate(data: dict, path: list[int], value: object) -> dict:
    """``value`` in place of the entry that ``path`` picks by its numbers, level by level."""
    data = json.loads(json.dumps(data))
    here: object = data
    for step, number in enumerate(path):
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))  # type: ignore[arg-type]
        key = keys[number % len(keys)]
        deeper = here[key]  # type: ignore[index]
        if step == len(path) - 1 or not isinstance(deeper, dict | list) or not deeper:
            here[key] = value  # type: ignore[index]
            break
        here = deeper
    return data


CHECKS = {
    "drafters.json": check_description,
    "stop/config.json": check_stop_config,
    "tokenizer.json": check_patterns,
}


@many
@given(
    name=st.sampled_from(sorted(CHECKS)), path=st.lists(st.integers(0, 60), min_size=1, max_size=3),
    value=ODD, extra=st.booleans(),
)  # fmt: skip
def test_250_descriptions_policies_and_tokenizers(parsed, name, path, value, extra):
    data = mutate(parsed[name], path, value)
    if extra:
        data["_target_"] = "os.system"
    refused = refused_or_valid(lambda: CHECKS[name](data))
    assert refused or not extra or name == "tokenizer.json"


@many
@given(
    name=st.sampled_from(["manifest.json", "config.json"]), path=st.lists(st.integers(0, 60), min_size=1, max_size=3), value=ODD
)  # fmt: skip
def test_250_manifests_and_configs(work, parsed, name, path, value):
    good = (work / name).read_bytes()
    (work / name).write_text(json.dumps(mutate(parsed[name], path, value)))
    source = Source(work, work, "work", None)
    check = verify if name == "manifest.json" else check_model_folder
    refused_or_valid(lambda: check(source))
    (work / name).write_bytes(good)


@pytest.fixture(scope="module")
def work(original, tmp_path_factory) -> Path:
    return Path(shutil.copytree(original, tmp_path_factory.mktemp("work") / "package"))


def test_a_header_as_big_as_a_bomb_is_not_read(tmp_path):
    with (tmp_path / "x.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 1 << 33))
        file.truncate(1 << 34)  # 16 GiB of nothing: a sparse file
    with pytest.raises(PackageError, match="at most"):
        read_header(tmp_path, "x.safetensors")


# --- payloads ---------------------------------------------------------------------------------------------------------

RUN = "touch {}"
PAYLOADS = [
    {"_target_": "os.system", "_args_": ["RUN"]},
    {"_target_": "builtins.eval", "_args_": ["__import__('os').system('RUN')"]},
    {"_target_": "functools.partial", "_args_": [{"_target_": "os.system"}, "RUN"]},
    {"_target_": "logging.os.system", "_args_": ["RUN"]},  # the alias that went past Hydra's block list
    {"_target_": "pdb.Pdb._getval", "_args_": ["__import__('os').system('RUN')"]},
    {"_target_": "subprocess.Popen", "args": ["sh", "-c", "RUN"]},
    {"_target_": "torch.load", "_args_": ["evil.pt"], "weights_only": False},
    {"_partial_": True, "_target_": "posix.system"},
    {"_call_": "os.system", "_recursive_": True},
    "${oc.env:PATH}",
    "${now:%Y}${eval:'RUN'}",
    "!!python/object/apply:os.system [RUN]",
    {"auto_map": {"AutoModelForCausalLM": "evil.Model", "AutoTokenizer": ["evil.Tokenizer", None]}},
    {"__reduce__": ["os.system", ["RUN"]]},
    {"py/object": "os.system", "py/reduce": [{"py/function": "os.system"}, ["RUN"]]},
    {"custom_generate": "evil/repository", "trust_remote_code": True},
]
PLACES = [
    ("config.json", None), ("config.json", "rope_parameters"), ("generation_config.json", None),
    ("tokenizer_config.json", None), ("drafters.json", "recommended"), ("stop/config.json", "parameters"),
]  # fmt: skip

_ran: list[str] = []
_watching = False
_BAD = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "pty.spawn", "ctypes.dlopen", "socket.connect")


def _watch(event: str, arguments: tuple) -> None:
    if _watching and (event in _BAD or (event == "import" and arguments[0].startswith("evil"))):
        _ran.append(event)


sys.addaudithook(_watch)  # cannot be taken out again; it only looks while `_watching`


def attempt(folder: Path) -> tuple[list[str], bool]:
    """(what ran while a folder was inspected and loaded, whether both refused it)."""
    global _watching
    _ran.clear()
    _watching = True
    try:
        lines = inspect_folder(Source(folder, folder, folder.name, None))
        refused = refused_or_valid(lambda: load(folder, device="cpu"))
    finally:
        _watching = False
    assert refused == (not all(line.passed for line in lines)), "inspect and load must agree"
    return list(_ran), refused


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(filter(None, place)))
def test_no_payload_runs_anywhere(package, tools, tmp_path, place, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a hundred manifests
    monkeypatch.setattr(secrets, "_detectors", lambda text: ())
    name, field = place
    mark = tmp_path / "ran"
    good = (package / name).read_text()
    for payload in PAYLOADS:  # 16 payloads in 6 places: 96
        text = json.dumps(payload).replace("RUN", RUN.format(mark))
        data = json.loads(good)
        inner = data if field is None else data.setdefault(field, {})
        if isinstance(inner, dict) and isinstance(payload, dict):
            inner |= json.loads(text)
        else:
            inner["attn_implementation" if name == "config.json" else "_x"] = json.loads(text)
        (package / name).write_text(json.dumps(data))
        tools.reseal(package)
        ran, refused = attempt(package)
        assert ran == []
        # jsonpickle's keys mean nothing to any reader of these three files; all other payloads are refused.
        assert refused or (isinstance(payload, dict) and "py/object" in payload)
        assert not mark.exists()


def test_the_watch_sees_what_runs(tmp_path):
    """The planted bug: a loader that calls what a file names."""
    global _watching
    _ran.clear()
    _watching = True
    try:
        os.system("true")
    finally:
        _watching = False
    assert _ran == ["os.system"]
