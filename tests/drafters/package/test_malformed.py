"""Every way to break a package ends in a PackageError that names the file and the field, resealed or not."""

import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from drafters.package import integrity, reader
from drafters.package.reader import load
from drafters.package_error import PackageError


def refused(directory: Path, file: str, field: str) -> PackageError:
    with pytest.raises(PackageError) as caught:
        load(directory, device="cpu")
    assert (caught.value.file, caught.value.field) == (file, field), str(caught.value)
    assert caught.value.fix
    assert caught.value.expected
    return caught.value


def edit_json(path: Path, **changes) -> None:
    data = json.loads(path.read_text())
    for key, value in changes.items():
        target = data
        *parents, last = key.split("__", 1) if not key.startswith("_") else [key]
        for parent in parents:
            target = target[parent]
        target[last] = value
    path.write_text(json.dumps(data))


def edit_tensors(path: Path, **changes) -> None:
    tensors = load_file(path) | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


def test_a_model_folder_is_told_from_a_damaged_package(package):
    (package / "manifest.json").unlink()
    assert "stage=package" in refused(package, "manifest.json", "file").fix


# --- broken on the way: the seal tells
# ---------------------------------------------------------------------------------


def test_a_flipped_bit_is_found_in_every_file(package):
    for path in sorted(path for path in package.rglob("*") if path.is_file() and path.name != "manifest.json"):
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        refused(package, path.relative_to(package).as_posix(), "sha256")
        path.write_bytes(good)
    load(package, device="cpu")


def test_without_the_hash_check_the_flip_would_pass(package, monkeypatch):
    """The planted bug: if this loader went by, the test above would prove nothing."""
    monkeypatch.setattr(integrity.hashlib, "file_digest", lambda file, name: _Agreeing(file))
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_a_flipped_bit_is_found_in_every_file(package)


class _Agreeing:
    def __init__(self, file):
        self.file = Path(file.name)

    def hexdigest(self):
        for parent in self.file.parents:
            if (parent / "manifest.json").exists():
                files = json.loads((parent / "manifest.json").read_text())["files"]
                return files[self.file.relative_to(parent).as_posix()]["sha256"]
        raise AssertionError


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.safetensors", "config.json", "stop/config.json"])
def test_a_truncated_or_missing_file(package, name):
    path = package / name
    path.write_bytes(path.read_bytes()[:-5])
    refused(package, name, "size")
    path.unlink()
    refused(package, name, "file")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_damage_never_loads_and_never_ends_otherwise(original, tmp_path_factory, data):
    directory = Path(shutil.copytree(original, tmp_path_factory.mktemp("damage") / "package"))
    names = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    path = directory / data.draw(st.sampled_from(names))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        load(directory, device="cpu")
    except PackageError:
        return
    # Only what no one reads may differ: the manifest's record of how the package was made.
    assert path.name == "manifest.json"


# --- manifest
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"format_version": 2}, "format_version"),
        ({"format_version": True}, "format_version"),
        ({"format_version": None}, "format_version"),
        ({"kind": "prune"}, "kind"),
        ({"files": []}, "files"),
        ({"files__model.safetensors": {"size": -1, "sha256": "0" * 64}}, "files.model.safetensors"),
        ({"files__model.safetensors": {"size": 3, "sha256": "zz"}}, "files.model.safetensors"),
        ({"files__../../etc/passwd": {"size": 3, "sha256": "0" * 64}}, "files.../../etc/passwd"),
        ({"files__code.py": {"size": 3, "sha256": "0" * 64}}, "files.code.py"),
        ({"files__pytorch_model.bin": {"size": 3, "sha256": "0" * 64}}, "files.pytorch_model.bin"),
    ],
)
def test_manifests(package, change, field):
    edit_json(package / "manifest.json", **change)
    refused(package, "manifest.json", field)


def test_a_newer_format_says_upgrade(package):
    edit_json(package / "manifest.json", format_version=7)
    assert "pip install --upgrade" in refused(package, "manifest.json", "format_version").fix


def test_a_manifest_is_read_up_to_a_cap(package, monkeypatch):
    monkeypatch.setattr(integrity, "MAX_MANIFEST_BYTES", 100)
    refused(package, "manifest.json", "size")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{", "JSON"),
        ("[]", "JSON"),
        ('{"kind": NaN}', "JSON"),
        ('{"kind": 1, "kind": 2}', "kind"),
        ("[" * 100_000, "JSON"),
        ('{"a":' * 70 + "1" + "}" * 70, "JSON"),
        ('{"kind": ' + "9" * 5000 + "}", "JSON"),
        ("\ud800".encode("utf-16", "surrogatepass").decode("latin-1"), "JSON"),
    ],
)
def test_manifests_that_are_not_json(package, text, field):
    (package / "manifest.json").write_text(text, encoding="utf-8")
    refused(package, "manifest.json", field)


def test_files_that_the_manifest_does_not_list(package):
    (package / "extra.safetensors").write_bytes(b"")
    refused(package, "extra.safetensors", "file")
    (package / "extra.safetensors").unlink()
    (package / "stop" / "modeling.py").write_text("")
    refused(package, "stop/modeling.py", "file")


def test_links_out_of_the_folder(package, tmp_path):
    outside = tmp_path / "outside.json"
    outside.write_bytes((package / "config.json").read_bytes())
    (package / "config.json").unlink()
    (package / "config.json").symlink_to(outside)
    refused(package, "config.json", "link")
    (package / "config.json").unlink()
    (package / "config.json").write_bytes(outside.read_bytes())
    shutil.move(package / "stop", tmp_path / "stop")
    (package / "stop").symlink_to(tmp_path / "stop")
    refused(package, "stop", "link")


def test_what_is_no_regular_file(package):
    import os

    (package / "LICENSE").unlink()
    os.mkfifo(package / "LICENSE")
    refused(package, "LICENSE", "type")


# --- resealed: made to be broken
# ---------------------------------------------------------------------------------------

KEPT = [0, 1, 2, 3, 7, 11, 20, 33, 46]


def ids(*values: int) -> torch.Tensor:
    return torch.tensor(values)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kept": torch.tensor(KEPT, dtype=torch.int32)}, "kept"),
        ({"kept": torch.tensor([KEPT])}, "kept"),
        ({"kept": ids(0, 1, 2, 7, 3, 11, 20, 33, 46)}, "kept"),
        ({"kept": ids(0, 1, 2, 3, 3, 11, 20, 33, 46)}, "kept"),
        ({"kept": ids(-1, 1, 2, 3, 7, 11, 20, 33, 46)}, "kept"),
        ({"kept": ids(0, 1, 2, 3, 7, 11, 20, 33, 48)}, "kept"),
        ({"kept": None}, "kept"),
        ({"more": ids(1)}, "more"),
        ({"to_target": ids(0, 1, 2, 3, 7, 11, 20, 33)}, "to_target"),
        ({"to_target": ids(0, 1, 2, 3, 7, 11, 20, 33, 1 << 40)}, "to_target"),
        ({"to_target": ids(0, 1, 2, 3, 7, 11, 20, 33, 45)}, "to_drafter"),
        ({"to_target": ids(*KEPT).double()}, "to_target"),
        ({"to_drafter": torch.full((47,), -1)}, "to_drafter"),
        ({"to_drafter": torch.full((48,), -2)}, "to_drafter"),
        ({"to_drafter": torch.zeros(48, dtype=torch.int64)}, "to_drafter"),
    ],
)
def test_vocabulary_maps(package, tools, change, field):
    edit_tensors(package / "vocab.safetensors", **change)
    tools.reseal(package)
    refused(package, "vocab.safetensors", field)


def test_a_shifted_map_is_refused_for_one_tokenizer(package, tools):
    shifted = torch.tensor([token + 1 for token in KEPT])
    to_drafter = torch.full((48,), -1)
    to_drafter[shifted] = torch.arange(9)
    edit_tensors(package / "vocab.safetensors", to_target=shifted, to_drafter=to_drafter)
    tools.reseal(package)
    refused(package, "vocab.safetensors", "to_target")


def test_an_end_of_text_that_was_pruned(package, tools):
    edit_json(package / "drafters.json", eos=[2, 5])
    tools.reseal(package)
    refused(package, "vocab.safetensors", "kept")


@pytest.mark.parametrize(
    ("file", "change", "field"),
    [
        ("affinity.safetensors", {"index": torch.full((9, 3), 48, dtype=torch.int32)}, "index"),
        ("affinity.safetensors", {"index": torch.full((9, 3), -1, dtype=torch.int32)}, "index"),
        ("affinity.safetensors", {"index": torch.zeros(9, 3, dtype=torch.int64)}, "index"),
        ("affinity.safetensors", {"weight": torch.full((9, 3), 0.5)}, "weight"),
        ("affinity.safetensors", {"weight": torch.tensor([[2.0, -1.0, 0.0]] * 9)}, "weight"),
        ("affinity.safetensors", {"weight": torch.full((9, 2), 0.5)}, "weight"),
        ("affinity.safetensors", {"weight": torch.full((9, 3), 1 / 3).double()}, "weight"),
        ("affinity.safetensors", {"share": torch.full((9,), 1.5)}, "share"),
        ("affinity.safetensors", {"share": torch.full((9,), torch.nan)}, "share"),
        ("affinity.safetensors", {"share": None}, "share"),
        ("tail.safetensors", {"ids": ids(4, 5, 6, 8, 7)}, "ids"),
        ("tail.safetensors", {"ids": ids(4, 5, 6, 7, 8)}, "ids"),
        ("tail.safetensors", {"down": torch.rand(2, 15)}, "down"),
        ("tail.safetensors", {"up": torch.rand(5, 3)}, "up"),
        ("tail.safetensors", {"bias": torch.full((5,), torch.inf)}, "bias"),
        ("stop/model.safetensors", {"layers.0.weight": torch.rand(6, 5)}, "layers.0.weight"),
        ("stop/model.safetensors", {"layers.1.bias": None}, "layers.1.bias"),
        ("stop/model.safetensors", {"scale": torch.zeros(4)}, "scale"),
        ("stop/model.safetensors", {"mean": torch.zeros(4).half()}, "mean"),
    ],
)
def test_slots(package, tools, file, change, field):
    edit_tensors(package / file, **change)
    tools.reseal(package)
    refused(package, file, field)


def test_rows_that_share_nothing_need_no_neighbours(package, tools):
    zero = torch.zeros(9)
    edit_tensors(package / "affinity.safetensors", share=zero, weight=torch.zeros(9, 3))
    tools.reseal(package)
    assert torch.equal(load(package, device="cpu").affinity.share, zero)


def test_half_a_stop_policy(package, tools):
    (package / "stop" / "config.json").unlink()
    tools.reseal(package)
    refused(package, "manifest.json", "files.stop")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"lm_head.weight": torch.full((9, 16), torch.nan)}, "lm_head.weight"),
        ({"lm_head.weight": torch.zeros(10, 16)}, "size"),
        ({"model.norm.weight": None}, "size"),
        ({"model.extra": torch.zeros(3)}, "size"),
    ],
)
def test_weights(package, tools, change, field):
    edit_tensors(package / "model.safetensors", **change)
    tools.reseal(package)
    refused(package, "model.safetensors", field)


def test_weights_of_the_right_number_under_other_names(package, tools):
    tensors = load_file(package / "model.safetensors")
    tensors["model.layers.0.mlp.other.weight"] = tensors.pop("model.layers.0.mlp.up_proj.weight")
    save_file(tensors, package / "model.safetensors")
    tools.reseal(package)
    refused(package, "model.safetensors", "tensors")


def header(entries: dict, data: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"", "header"),
        (b"\x05\0\0", "header"),
        (header({}, length=1 << 60), "header"),
        (struct.pack("<Q", 10_000_001) + b" " * 10_000_001, "header"),
        (struct.pack("<Q", 2) + b"[]", "header"),
        (struct.pack("<Q", 4) + b"\xff\xfe{}", "header"),
        (header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"0000"), "a.data_offsets"),
        (header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"0" * 8), "a.data_offsets"),
        (header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"0" * 8), "size"),
        (header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}), "size"),
        (header({"a": {"dtype": "object", "shape": [1], "data_offsets": [0, 4]}}, b"0000"), "a.dtype"),
        (header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"0000"), "a.shape"),
        (header({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, b"0000"), "a.shape"),
        (
            header({"a": {"dtype": "F32", "shape": [1 << 47, 1 << 47], "data_offsets": [0, 4]}}, b"0000"),
            "a.data_offsets",
        ),
        (header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "more": 1}}, b"0000"), "a"),
        (header({"a": 3}), "a"),
        (header({"__metadata__": {"format": 1}}), "__metadata__"),
    ],
)
@pytest.mark.parametrize("name", ["vocab.safetensors", "affinity.safetensors", "model.safetensors"])
def test_headers(package, tools, content, field, name):
    (package / name).write_bytes(content)
    tools.reseal(package)
    refused(package, name, field)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "evil.Model"}}, "auto_map"),
        ({"_attn_implementation_internal": "evil/kernel"}, "_attn_implementation_internal"),
        ({"attn_implementation": "evil/kernel"}, "attn_implementation"),
        ({"custom_pipelines": {"x": 1}}, "custom_pipelines"),
        ({"transformers_weights": "other.safetensors"}, "transformers_weights"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1.0, "_secret": "x"}}, "rope_parameters._secret"),
        ({"invented": 1}, "invented"),
        ({"quantization_config": {"quant_method": "x"}}, "quantization_config"),
        ({"vocab_size": 1 << 40}, "vocab_size"),
        ({"vocab_size": "48"}, "vocab_size"),
        ({"vocab_size": 47}, "vocab_size"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"hidden_size": True}, "hidden_size"),
        ({"model_type": "nonesuch"}, "model_type"),
        ({"model_type": "bert"}, None),
        ({"num_attention_heads": 3}, None),
        ({"hidden_act": "nonesuch"}, "model"),
        ({"rope_parameters": {"rope_type": "nonesuch", "rope_theta": 1.0}}, None),
        ({"rope_parameters": 3}, None),
        ({"dtype": "nonesuch"}, None),
        ({"eos_token_id": "x"}, None),
        ({"rms_norm_eps": None}, None),
        ({"model_type": ["llama"]}, "model_type"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "architectures"),
    ],
)
def test_model_configs(package, tools, change, field):
    edit_json(package / "config.json", **change)
    tools.reseal(package)
    if field is None:  # which rule of transformers' own it breaks first is of no interest
        with pytest.raises(PackageError, match=r"config\.json"):
            load(package, device="cpu")
    else:
        refused(package, "config.json", field)


def test_a_config_of_a_bigger_model_allocates_nothing(package, tools, monkeypatch):
    edit_json(package / "config.json", hidden_size=1 << 16, intermediate_size=1 << 18, head_dim=1 << 15)
    tools.reseal(package)
    monkeypatch.setattr(reader, "load_pruned", lambda *args, **kwargs: pytest.fail("the weights were loaded"))
    refused(package, "model.safetensors", "size")


@pytest.mark.parametrize(
    ("file", "field"),
    [("generation_config.json", "auto_map"), ("tokenizer_config.json", "auto_map"), ("generation_config.json", "_x")],
)
def test_code_in_other_json(package, tools, file, field):
    edit_json(package / file, **{field: {"AutoTokenizer": ["evil.Tokenizer", None]}})
    tools.reseal(package)
    refused(package, file, field)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"format_version": 2}, "format_version"),
        ({"format_version": "1"}, "format_version"),
        ({"name": "a\x1b[31mb"}, "name"),
        ({"name": 3}, "name"),
        ({"foreign": "no"}, "foreign"),
        ({"foreign": 0}, "foreign"),
        ({"eos": 2}, "eos"),
        ({"eos": [48]}, "eos"),
        ({"eos": [-1]}, "eos"),
        ({"eos": [2.0]}, "eos"),
        ({"coverage": 1.5}, "coverage"),
        ({"coverage": "0.9"}, "coverage"),
        ({"least_covered": {"domain": "a"}}, "least_covered.coverage"),
        ({"least_covered": {"domain": "[a](https://x)", "coverage": 0.5}}, "least_covered.domain"),
        ({"least_covered": {"domain": "a", "coverage": 2}}, "least_covered.coverage"),
        ({"least_covered": {"domain": "a", "coverage": 0.5, "more": 1}}, "least_covered.more"),
        ({"least_covered": "a"}, "least_covered"),
        ({"target__vocabulary": 0}, "target.vocabulary"),
        ({"target__vocabulary": 49}, "drafter.vocabulary"),
        ({"drafter__kept": 49}, "drafter.kept"),
        ({"drafter__vocabulary": 1 << 60}, "drafter.vocabulary"),
        ({"drafter__revision": "main"}, "drafter.revision"),
        ({"target__id": "/home/me"}, "target.id"),
        ({"target__more": 1}, "target.more"),
        ({"recommended": {}}, "recommended.sampler"),
        ({"recommended__sampler": "a b"}, "recommended.sampler"),
        ({"generation__top_p": 2}, "generation.top_p"),
        ({"generation__top_k": -1}, "generation.top_k"),
        ({"generation__temperature": True}, "generation.temperature"),
        ({"_target_": "os.system"}, "_target_"),
    ],
)
def test_descriptions(package, tools, change, field):
    edit_json(package / "drafters.json", **change)
    tools.reseal(package)
    refused(package, "drafters.json", field)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "../x"}, "name"),
        ({"features": []}, "features"),
        ({"features": ["a", "a", "b", "c"]}, "features"),
        ({"features": ["a", "b", "c", 4]}, "features[3]"),
        ({"hidden": [0]}, "hidden"),
        ({"hidden": [1 << 30]}, "hidden"),
        ({"outputs": 0}, "outputs"),
        ({"activation": "eval"}, "activation"),
        ({"threshold": 2}, "threshold"),
        ({"parameters": {"k": "x"}}, "parameters.k"),
        ({"trained_on": {"sampler": "a b"}}, "trained_on.sampler"),
        ({"class": "x"}, "class"),
    ],
)
def test_stop_configs(package, tools, change, field):
    edit_json(package / "stop" / "config.json", **change)
    tools.reseal(package)
    refused(package, "stop/config.json", field)


def test_a_stop_policy_for_other_features(package, tools):
    edit_json(package / "stop" / "config.json", features=["a", "b"])
    tools.reseal(package)
    refused(package, "stop/model.safetensors", "mean")


def test_a_tokenizer_that_could_hang(package, tools):
    data = json.loads((package / "tokenizer.json").read_text())
    data["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    (package / "tokenizer.json").write_text(json.dumps(data))
    tools.reseal(package)
    refused(package, "tokenizer.json", "pre_tokenizer.pattern.Regex")


def test_a_tokenizer_that_cannot_be_built(package, tools):
    data = json.loads((package / "tokenizer.json").read_text())
    data["model"] = {"type": "Nonesuch"}
    (package / "tokenizer.json").write_text(json.dumps(data))
    tools.reseal(package)
    refused(package, "tokenizer.json", "file")


def test_control_characters_do_not_reach_the_terminal(package, tools):
    edit_json(package / "drafters.json", name="\x1b[2J" + "x" * 10_000)
    tools.reseal(package)
    message = str(refused(package, "drafters.json", "name"))
    assert message.isprintable()
    assert len(message) < 500
