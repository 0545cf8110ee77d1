"""Stage export: the files, the drafter they may be completed from, and the command that is shown."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from drafters.package.errors import PackageError
from drafters.package.export.common import ExportError
from drafters.package.writer import folder_revision
from pipeline.stage import Context
from pipeline.stages import export as stage

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "tests" / "drafters" / "package" / "formats" / "v1"
DRAFTER = ROOT / "drafters" / "zoo" / "pycode" / "foreign"


def context(tmp_path, to, form=None) -> Context:
    cfg = OmegaConf.create({
        "pair": {"name": "x", "target": str(DRAFTER), "drafter": str(DRAFTER), "foreign": None},
        "export": OmegaConf.structured(stage.ExportConfig(to=to, form=form)),
    })  # fmt: skip
    return Context(cfg, {"package": PACKAGE}, tmp_path, Console(record=True, width=300))


def test_a_map_needs_no_drafter_and_names_its_folder(tmp_path):
    ready = context(tmp_path, "speculators")
    stage.run(ready)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d2t.npy", "export.json", "maps.safetensors", "t2d.npy"]
    stage.show(ready.out, ready.inputs, ready.console)
    text = ready.console.export_text()
    assert f"--d2t-path {tmp_path}/d2t.npy" in text
    assert "DIR" not in text
    assert "9 ids" in json.loads((tmp_path / "export.json").read_text())["checked"]


def test_rows_come_from_no_other_drafter(tmp_path):
    with pytest.raises(PackageError, match=r"drafter\.revision.*Set pair\.drafter"):
        stage.run(context(tmp_path, "transformers"))
    model = stage.original(context(tmp_path, "transformers").cfg, folder_revision(DRAFTER))
    assert model.config.vocab_size == 4096
    assert stage.original(context(tmp_path, "transformers").cfg, None) is not None


def test_what_is_impossible_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ExportError, match="not possible today"):
        stage.check(context(tmp_path, "sglang", "full").cfg)
    with pytest.raises(ExportError, match="expected one of"):
        stage.check(context(tmp_path, None).cfg)
