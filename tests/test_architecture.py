"""The repository's own rules: who may import whom, and that every configuration file works."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pipeline.config.hydra_config import check, load
from pipeline.config.settings import CONF
from pipeline.runner.discovery import load_stage, stage_names, stage_schema

ROOT = CONF.parent
GROUPS = {
    group: sorted(path.stem for path in (CONF / group).glob("*.yaml")) for group in ("pair", "corpus", "suite", "stop")
}
ROWS = [dict(zip(GROUPS, row, strict=True)) for row in itertools.zip_longest(*GROUPS.values())]


def test_dependency_rule() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(filter(None, row.values())))
def test_every_choice_composes(row: dict[str, str | None]) -> None:
    chosen = {group: name for group, name in row.items() if name}
    cfg = load(["stage=count", *(f"{group}={name}" for group, name in chosen.items())])
    check(cfg)
    for group, name in chosen.items():
        assert cfg[group].name == name  # the name under which it is chosen is the name it reports


@pytest.mark.parametrize("hardware", sorted(path.stem for path in (CONF / "hardware").glob("*.yaml")))
def test_every_hardware_composes(hardware: str) -> None:
    cfg = load(["stage=count", f"hardware={hardware}"])
    check(cfg)
    assert cfg.hardware.backend in ("local", "ray", "slurm")
    assert "device" not in cfg.hardware  # what is global lands globally


@pytest.mark.parametrize("stage", stage_names())
def test_every_stage_composes_with_the_defaults_of_its_dataclass(stage: str) -> None:
    cfg = load([f"stage={stage}"])
    check(cfg)
    assert cfg.stage == stage
    assert load_stage(stage)[0].name == stage
    schema = stage_schema(stage)
    assert schema is not None
    settings, defaults = cfg[stage.replace("-", "_")], OmegaConf.structured(schema)
    if stage == "eval":
        settings.more_drafters = {}  # those of the pair
    assert OmegaConf.to_container(settings) == OmegaConf.to_container(defaults)


def test_settings_of_stages_are_stated_once() -> None:
    assert not (CONF / "stage").exists()  # a second place for defaults: two that differed were in force by turns


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_every_experiment_composes(name: str) -> None:
    check(load([f"experiment={name}"]))


def test_no_configuration_file_names_code() -> None:
    for path in CONF.rglob("*.yaml"):
        assert "_target_" not in path.read_text(), path  # hydra would import and call it


def test_wheel_holds_the_library_alone() -> None:
    from setuptools import find_packages

    found = find_packages(str(ROOT), include=["drafters*"])
    assert {"drafters", "drafters.package"} <= set(found)
    assert {name.partition(".")[0] for name in found} == {"drafters"}
