"""Folders that lack what their target has: written, completed byte for byte, and refused with any other target."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from drafters.io.borrowed_json import BORROWED, parse_borrowed
from drafters.io.hub import local_source
from drafters.models import borrowed
from drafters.models.borrowed import complete, write_borrowed
from drafters.models.model_folder import check_model_folder
from drafters.models.pair import load_pair, open_checkpoint
from drafters.package_error import PackageError

EMBEDDING, HEAD, WEIGHTS = "model.embed_tokens.weight", "lm_head.weight", "model.safetensors"
BOTH = (EMBEDDING, HEAD)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DRAFTERS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "completed"


def write_model(folder: Path, tools, tied: bool, seed: int, head: torch.Tensor | None = None) -> Path:
    """A bf16 model; of another ``seed`` all weights but the embedding differ."""
    model = tools.make_model(tied=tied).to(torch.bfloat16)
    torch.manual_seed(seed)
    for name, weight in model.named_parameters():
        if name != EMBEDDING:
            weight.data.add_(0.01 * torch.randn_like(weight))
    if head is not None:
        model.get_output_embeddings().weight.data = head.clone()
    model.save_pretrained(folder)
    tools.make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def pair(tmp_path, tools, request):
    """Folders of a target, a drafter with its embedding and head, and that drafter before it borrowed."""
    target = write_model(tmp_path / "target", tools, request.param, 1)
    head = None if request.param else load_file(target / WEIGHTS)[HEAD]
    drafter = write_model(tmp_path / "drafter", tools, request.param, 2, head)
    before = Path(shutil.copytree(drafter, tmp_path / "before"))
    write_borrowed(drafter, target, [EMBEDDING] if request.param else BOTH)
    return target, drafter, before


def files(folder: Path) -> dict[str, bytes]:
    names = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in names}


def open_drafter(target: Path, drafter: Path):
    return complete(local_source(drafter, str(drafter)), local_source(target, str(target)))


def edit(folder: Path, change) -> None:
    data = json.loads((folder / BORROWED).read_text())
    change(data)
    (folder / BORROWED).write_text(json.dumps(data))


def test_a_completed_folder_has_the_bytes_of_the_one_that_borrowed(pair):
    target, drafter, before = pair
    assert not {EMBEDDING, HEAD} & load_file(drafter / WEIGHTS).keys()
    assert not (drafter / "tokenizer.json").exists()
    assert open_drafter(target, before).folder == before  # it borrows nothing
    found = open_drafter(target, drafter)
    assert files(found.folder) == files(before)
    assert (found.id, found.revision, found.home) == (str(drafter), None, drafter)


def test_the_pair_opens_as_with_the_complete_drafter(pair):
    target, drafter, before = pair
    ours, theirs = (
        load_pair(target=target, drafter=folder, device="cpu", dtype="bf16") for folder in (drafter, before)
    )
    ours, theirs = ours.drafter.state_dict(), theirs.drafter.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_it_is_completed_once(pair, cache, monkeypatch):
    target, drafter, _ = pair
    first = open_drafter(target, drafter).folder
    monkeypatch.setattr(borrowed, "_write", None)
    assert open_drafter(target, drafter).folder == first
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [first.name]


def test_a_damaged_or_half_written_completion_is_written_again(pair, cache, monkeypatch):
    target, drafter, before = pair
    place = open_drafter(target, drafter).folder
    data = bytearray((place / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (place / WEIGHTS).write_bytes(data)
    assert files(open_drafter(target, drafter).folder) == files(before)
    shutil.rmtree(place)
    (cache / f".{place.name}.tmp-1").mkdir()  # of a process that was killed

    def full(*args, **kwargs):
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(borrowed, "write_manifest", full)
        with pytest.raises(OSError, match="no space"):
            open_drafter(target, drafter)
    assert not place.exists()
    assert files(open_drafter(target, drafter).folder) == files(before)
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [place.name]


@pytest.mark.parametrize("name", BOTH)
def test_one_bit_in_the_target_is_refused(pair, name):
    target, drafter, _ = pair
    tensors = load_file(target / WEIGHTS)
    if name not in tensors:
        pytest.skip("tied: the embedding is the head")
    tensors[name].view(torch.int16)[17, 3] ^= 1
    save_file(tensors, target / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(
        PackageError, match=rf"tensors\.{name}: expected {name} of target with sha256 .*pair\.target=DIR"
    ):
        load_pair(target=target, drafter=drafter, device="cpu")


def test_other_targets_are_refused_by_name(pair):
    target, drafter, _ = pair
    tensors = load_file(target / WEIGHTS)
    for change in (torch.Tensor.half, lambda weight: weight[:-1].clone()):  # of another dtype, of another shape
        save_file(tensors | {EMBEDDING: change(tensors[EMBEDDING])}, target / WEIGHTS, metadata={"format": "pt"})
        with pytest.raises(PackageError, match=rf"tensors\.{EMBEDDING}: .* in .*target"):
            open_drafter(target, drafter)
    save_file({name: tensors[name] for name in tensors if name != EMBEDDING}, target / WEIGHTS)
    with pytest.raises(PackageError, match="no such tensor in"):
        open_drafter(target, drafter)
    save_file(tensors, target / WEIGHTS)
    (target / "tokenizer.json").write_text((target / "tokenizer.json").read_text() + "\n")
    with pytest.raises(PackageError, match=r"files\.tokenizer\.json: expected that of target"):
        open_drafter(target, drafter)


def test_alone_it_is_refused_with_what_to_do(pair):
    target, drafter, _ = pair
    with pytest.raises(PackageError, match=r"the target that this folder borrows from, got no target\. Give target as"):
        check_model_folder(local_source(drafter, "drafter"))
    with pytest.raises(PackageError, match="got no target"):
        open_checkpoint("drafter", {"drafter": drafter, "drafter_revision": None})
    with pytest.raises(PackageError, match="got no target"):  # a target has nobody to borrow of
        open_checkpoint("target", {"target": drafter, "target_revision": None, "drafter": target})


def test_a_sharded_target_lends(pair):
    target, drafter, before = pair
    tensors = load_file(target / WEIGHTS)
    (target / WEIGHTS).unlink()
    held = {name: f"model-{int(name == EMBEDDING) + 1}-of-2.safetensors" for name in tensors}
    for file in set(held.values()):
        part = {name: tensor for name, tensor in tensors.items() if held[name] == file}
        save_file(part, target / file, metadata={"format": "pt"})
    (target / "model.safetensors.index.json").write_text(json.dumps({"weight_map": held}))
    assert files(open_drafter(target, drafter).folder) == files(before)


def test_equal_tensors_are_found_by_their_bits(pair, monkeypatch):
    target, _, before = pair
    monkeypatch.setattr(borrowed, "LEAST_BYTES", 1)
    found = write_borrowed(before, target, target_id="org/target", target_revision="a" * 40)
    assert {name: loan.source for name, loan in found.tensors.items()} == {
        name: name for name in load_file(target / WEIGHTS) if name in BOTH
    }
    assert parse_borrowed(json.loads((before / BORROWED).read_text())) == found
    assert "of org/target" in str(found)


def test_minus_zero_is_not_zero_and_nothing_small_is_borrowed(pair, monkeypatch):
    target, _, before = pair
    tensors = load_file(before / WEIGHTS)
    for folder, zero in ((target, 0.0), (before, -0.0)):
        held = load_file(folder / WEIGHTS)
        held[EMBEDDING][0, 0] = zero
        save_file(held, folder / WEIGHTS, metadata={"format": "pt"})
    (before / "tokenizer.json").write_text("{}")
    unchanged = files(before)
    if HEAD not in tensors:
        monkeypatch.setattr(borrowed, "LEAST_BYTES", 1)
    assert not write_borrowed(before, target).tensors
    assert files(before) == unchanged
    with pytest.raises(PackageError, match=f"{EMBEDDING}: expected a tensor in bf16 that .* got another one"):
        write_borrowed(before, target, [EMBEDDING])
    with pytest.raises(PackageError, match=r"nowhere: .* got no such tensor"):
        write_borrowed(before, target, ["nowhere"])
    assert files(before) == unchanged


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.update(format=2), "format: expected at most 1, got 2. Upgrade"),
        (lambda data: data.update(more=1), "more: expected only the keys"),
        (lambda data: data["from"].update(revision="main"), "from.revision"),
        (lambda data: data["tensors"][EMBEDDING].update(dtype="fp32"), "dtype: expected one of bf16"),
        (lambda data: data["tensors"][EMBEDDING].update(shape=[48, -16]), "positive integers"),
        (lambda data: data["tensors"][EMBEDDING].update(rows="kept"), "rows: expected one of to_target"),
        (lambda data: data["tensors"][EMBEDDING].update(sha256="0"), "sha256: expected text that matches"),
        (lambda data: data["tensors"].update({"../x": {}}), "a tensor's name"),
        (lambda data: data["tensors"].update({f"x{i}": data["tensors"][EMBEDDING] for i in (1, 2)}), "at most twice"),
        (lambda data: data["tensors"].update({"model.norm.weight": data["tensors"][EMBEDDING]}), "only what the folder"),
        (lambda data: data["files"].update({"../../x": "0" * 64}), "only tokenizer.json"),
        (lambda data: data["tensors"][EMBEDDING].update(rows="to_target"), "vocab.safetensors"),
    ],
)  # fmt: skip
def test_malformed_ones_are_refused(pair, change, said):
    target, drafter, _ = pair
    edit(drafter, change)
    with pytest.raises(PackageError, match=said):
        open_drafter(target, drafter)
