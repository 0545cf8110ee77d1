"""Packages that lack what their target has: the same drafter as a complete one with that target, none with another."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import drafters
from drafters.export.catalog import export
from drafters.export.common import ExportRequest
from drafters.io.borrowed_json import BORROWED
from drafters.io.hub import local_source
from drafters.models import borrowed
from drafters.package.inspection import inspect_folder
from drafters.package.reader import load
from drafters.package_error import PackageError
from pipeline.inspect import main as inspect

EMBEDDING, HEAD, WEIGHTS = "model.embed_tokens.weight", "lm_head.weight", "model.safetensors"


def write_all(folder: Path, tools, tied: bool) -> Path:
    """A target, and packages of a drafter with its embedding and head: complete, and without what the target has."""
    target = tools.make_model(tied=tied).to(torch.bfloat16)
    target.save_pretrained(folder / "target")
    tools.make_tokenizer().save_pretrained(folder / "target")
    for name, lender in (("complete", None), ("package", folder / "target")):
        drafter = tools.make_model(tied=tied).to(torch.bfloat16)
        for layer in drafter.model.layers.parameters():
            layer.data *= 1.5
        drafter.save_pretrained(folder / "drafter")
        tools.make_tokenizer().save_pretrained(folder / "drafter")
        tools.write(folder / name, model=drafter, lender=lender)
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def written(tmp_path_factory, tools, request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(borrowed, "LEAST_BYTES", 200)  # below the head rows, above the norms, which are ones everywhere
        return write_all(tmp_path_factory.mktemp("borrowing"), tools, request.param)


@pytest.fixture
def folder(written, tmp_path, monkeypatch):
    monkeypatch.setenv("DRAFTERS_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(written, tmp_path / "all"))


def test_embedding_head_rows_and_tokenizer_are_left_to_the_target(folder, tools):
    held = load_file(folder / "package" / WEIGHTS).keys()
    assert held == load_file(folder / "complete" / WEIGHTS).keys() - {EMBEDDING, HEAD}
    assert not (folder / "package" / "tokenizer.json").exists()
    said = json.loads((folder / "package" / BORROWED).read_text())
    assert said["from"] == {"id": "org/target", "revision": "a" * 40}
    assert said["tensors"][HEAD] | {"sha256": ""} == {
        "source": HEAD if HEAD in load_file(folder / "target" / WEIGHTS) else EMBEDDING,
        "shape": [len(tools.kept), tools.hidden], "dtype": "bf16", "rows": "to_target", "sha256": "",
    }  # fmt: skip
    assert "rows" not in said["tensors"][EMBEDDING]


def test_it_decodes_what_the_complete_one_decodes(folder):
    target = AutoModelForCausalLM.from_pretrained(folder / "target", dtype=torch.float32).eval()
    whole = load(folder / "complete", device="cpu", dtype="fp32")
    for given in (target, folder / "target", str(folder / "target")):
        package = load(folder / "package", target=given, device="cpu", dtype="fp32")
        for form in ("model", "drafter", "tailed"):
            ours, theirs = (getattr(opened, form).state_dict() for opened in (package, whole))
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert package.tokenizer.get_vocab() == whole.tokenizer.get_vocab()
    for heat in (0.0, 1.0):
        out = [
            drafters.generate(target, opened, [1, 7, 20], temperature=heat, max_new_tokens=24, sampler="tli")
            for opened in (package, whole)
        ]
        assert out[0].tokens[0].tolist() == out[1].tokens[0].tolist()
        assert out[0].accepted.tolist() == out[1].accepted.tolist()


def test_without_its_target_it_is_refused_with_what_to_do(folder):
    with pytest.raises(PackageError, match=r"got no target\. Give org/target as .* drafters\.load\(DIR, target=DIR\)"):
        load(folder / "package", device="cpu")
    with pytest.raises(PackageError, match=r"no such folder. Give org/target, of which the package borrows, as target"):
        load(folder / "package", target=folder / "nowhere", device="cpu")


def test_one_bit_of_the_target_is_refused(folder):
    file = folder / "target" / WEIGHTS
    tensors = load_file(file)
    for name in {EMBEDDING, HEAD} & tensors.keys():
        tensors[name].view(torch.int16)[40, 3] ^= 1
        save_file(tensors, file, metadata={"format": "pt"})
        with pytest.raises(PackageError, match=rf"tensors\.\S+: expected {name} of org/target with sha256"):
            load(folder / "package", target=folder / "target", device="cpu")
        tensors[name].view(torch.int16)[40, 3] ^= 1


def test_the_seal_covers_what_is_borrowed(folder, tools):
    path = folder / "package" / BORROWED
    said = json.loads(path.read_text())
    said["from"]["id"] = "org/other"
    path.write_text(json.dumps(said))
    with pytest.raises(PackageError, match=r"borrowed\.json: (size|sha256)"):
        load(folder / "package", target=folder / "target", device="cpu")
    path.unlink()
    tools.reseal(folder / "package")
    with pytest.raises(PackageError, match=r"files\.tokenizer\.json: expected this file"):
        load(folder / "package", target=folder / "target", device="cpu")


def test_tensors_that_the_model_has_not_are_refused(folder, tools):
    path = folder / "package" / BORROWED
    said = json.loads(path.read_text())
    said["tensors"]["more"] = said["tensors"][EMBEDDING]
    said["tensors"].pop(HEAD)
    path.write_text(json.dumps(said))
    tools.reseal(folder / "package")
    with pytest.raises(PackageError, match=r"model\.safetensors: size: expected .* numbers"):
        load(folder / "package", target=folder / "target", device="cpu")


def test_inspect_says_what_is_borrowed_and_of_whom(folder, capsys):
    assert inspect([str(folder / "package")]) == 0
    said = capsys.readouterr().out
    assert f"borrowed: {HEAD} (rows), {EMBEDDING}, tokenizer.json of org/target" in said
    assert "ok      tokenizer       the target's" in said
    lines = inspect_folder(local_source(folder / "package", "package"))
    assert all(line.passed for line in lines)


def test_a_target_that_shares_nothing_leaves_the_package_complete(tmp_path, folder, tools, monkeypatch):
    monkeypatch.setattr(borrowed, "LEAST_BYTES", 200)  # below the head rows, above the norms, which are ones everywhere
    shutil.copytree(folder / "target", tmp_path / "other")
    (tmp_path / "other" / "tokenizer.json").unlink()
    tensors = load_file(folder / "target" / WEIGHTS)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, tmp_path / "other" / WEIGHTS)
    model = tools.make_model().to(torch.bfloat16)
    one, two = (tools.write(tmp_path / name, model=model, lender=tmp_path / "other") for name in ("one", "two"))
    assert not (one / BORROWED).exists()
    assert (one / "manifest.json").read_bytes() == (two / "manifest.json").read_bytes()
    load(one, device="cpu")


def test_an_export_is_complete(folder, tmp_path):
    package = load(folder / "package", target=folder / "target", device="cpu", dtype="fp32")
    for name in ("out", "whole"):
        (tmp_path / name).mkdir()
    drafter = local_source(folder / "drafter", "drafter")
    export(ExportRequest(package, folder / "package", lambda: drafter, tmp_path / "out"), "transformers")
    whole = load(folder / "complete", device="cpu", dtype="fp32")
    export(ExportRequest(whole, folder / "complete", lambda: drafter, tmp_path / "whole"), "transformers")
    assert not (tmp_path / "out" / BORROWED).exists()
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
