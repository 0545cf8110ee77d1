"""What a minute of reading can find is said before the first stage of a run, and stops the run that it would stop later."""

import contextlib
import copy
import functools
import io
import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from drafters.models import quantised
from pipeline.config import hydra_config
from pipeline.doctor import before_run as module
from pipeline.doctor.before_run import before_run
from pipeline.doctor.model_checks import model_findings
from pipeline.errors import PipelineError
from pipeline.runner.discovery import load_stage
from pipeline.runner.runner import Runner

ZOO = Path(module.__file__).parents[2] / "drafters" / "zoo" / "pycode"
QUANTISED = {"quantization_config": {"quant_method": "awq", "bits": 4}}


@functools.cache
def composed():
    return hydra_config.load(["stage=eval"])


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(module, "_said", set())


@pytest.fixture
def folder(tmp_path):
    """Makes a copy of a model of the embedded pair with changes to its JSON files."""

    def make(role: str, name: str = "config.json", **changes: object) -> str:
        path = tmp_path / role
        shutil.copytree(ZOO / role, path, dirs_exist_ok=True)
        data = json.loads((path / name).read_text()) | changes
        (path / name).write_text(json.dumps(data))
        return str(path)

    return make


def config(**pair: object):
    cfg = copy.deepcopy(composed())
    for name, value in pair.items():
        OmegaConf.update(cfg, name.replace("__", ".") if "__" in name else f"pair.{name}", value)
    return cfg


def said(*stages: str, **pair: object) -> str:
    """What is printed before these stages run."""
    console = Console(file=io.StringIO(), width=10_000)
    before_run(config(**pair), [load_stage(name)[0] for name in stages], console)
    return console.file.getvalue()


def stopped(*stages: str, **pair: object) -> str:
    with pytest.raises(PipelineError, match="before anything runs:") as caught:
        said(*stages, **pair)
    return str(caught.value)


def test_a_target_that_no_drafter_can_be_cut_of_is_refused_before_it_generates(folder):
    other = folder("target", model_type="qwen2_moe", architectures=["Qwen2MoeForCausalLM"])
    assert "target layers: pair.target is a qwen2_moe" in stopped("generate", "cut", target=other)
    assert "cut.count=99: expected a whole number from 1" in stopped("generate", "cut", cut__count=99)
    assert "target layers" not in said("generate", cut__count=99)


def test_a_pair_without_fault_is_passed_without_a_word():
    assert said("prune", "eval") == ""


def test_notes_are_named_once(folder):
    drafter = folder("drafter", unsloth_fixed=True, _model_name_or_path="x")
    assert said("prune", drafter=drafter) == "note: drafter: notes left out: _model_name_or_path, unsloth_fixed\n"
    assert said("prune", drafter=drafter) == ""


def test_what_would_stop_a_later_stage_stops_the_run(folder):
    assert "expected an unquantised drafter, got awq" in stopped(
        "count", "prune", drafter=folder("drafter", **QUANTISED)
    )
    assert "model_type: expected a model type" in stopped("count", target=folder("target", model_type="evil"))
    assert "not all is there" in stopped("count", "prune", drafter=folder("drafter", num_hidden_layers=9))


def test_a_missing_library_stops_only_what_opens_the_target(folder, monkeypatch):
    monkeypatch.setattr(quantised.importlib.util, "find_spec", lambda name: None)
    target = folder("target", **QUANTISED)
    assert "warning: target weights: " in said("count", "prune", "package", target=target)
    assert "pip install gptqmodel accelerate" in stopped("count", "eval", target=target)


def test_a_recurrent_state_stops_what_decodes_here(folder, monkeypatch):
    """As for other engines: its drafter can be pruned and exported."""
    monkeypatch.setattr("drafters.engine.cache.supported_models.inspect.signature", lambda forward: _NoPositions)
    assert "warning: target engine: llama: takes no position_ids" in said("count", "prune", "package")
    assert "target engine: llama: takes no position_ids" in stopped("count", "eval")


class _NoPositions:
    parameters = ()


def test_a_licence_is_asked_for_where_publishing_is_planned(folder):
    drafter = folder("drafter")
    (Path(drafter) / "LICENSE").unlink(missing_ok=True)
    assert said("package", "eval", drafter=drafter) == ""
    assert "licence: the drafter's licence is not known" in stopped("package", "publish", drafter=drafter)


def test_only_the_models_of_the_stages_to_run_are_opened():
    assert said("generate", drafter="/nowhere") == ""
    assert said("pretrain", target="/nowhere", drafter="/nowhere") == ""
    assert "no such folder" in stopped("count", target="/nowhere", foreign=False)


def test_settings_and_lengths_that_will_matter_are_told(folder):
    target = folder("target", "generation_config.json", repetition_penalty=1.05, typical_p=0.9)
    drafter = folder("drafter", max_position_embeddings=64)
    found = {finding.check: finding for finding in model_findings(config(target=target, drafter=drafter))}
    assert "has repetition_penalty=1.05, typical_p=0.9" in found["target settings"].text
    assert "pair.unset=[repetition_penalty,typical_p]" in found["target settings"].fix
    assert "the drafter reads 64 tokens" in found["context"].text
    assert all("warning" in line for line in said("package", target=target, drafter=drafter).splitlines())
    assert "pair.unset=[repetition_penalty,typical_p]" in stopped("eval", target=target, drafter=drafter)
    left_out = ["repetition_penalty", "typical_p"]
    assert said("eval", target=target, drafter=drafter, unset=left_out) == ""  # all was said


def test_doctor_names_a_recurrent_architecture_from_its_config_alone(tmp_path):
    from transformers import Qwen3NextConfig

    from drafters.engine.cache.supported_models import UnsupportedModel, check_architecture
    from drafters.models.architecture import model_class

    config = Qwen3NextConfig(num_hidden_layers=4, layer_types=["linear_attention"] * 3 + ["full_attention"])
    with pytest.raises(UnsupportedModel, match="qwen3_next: keeps a recurrent state"):
        check_architecture(model_class(config), config)


def test_the_runner_asks_once_and_only_where_something_is_to_run(tmp_path, monkeypatch):
    asked = []
    cfg = config()
    cfg.runs_dir = str(tmp_path)
    runner = Runner(
        cfg, Console(file=io.StringIO()), before=lambda cfg, stages, console: asked.append([s.name for s in stages])
    )
    monkeypatch.setattr(Runner, "_make", lambda self, step: None)
    monkeypatch.setattr(Runner, "_order", lambda self, step: ["count", "prune"])
    with contextlib.suppress(FileNotFoundError):  # nothing was made: the stage has no result to show
        runner.run("prune")
    assert asked == [["count", "prune"]]


def test_a_check_that_does_not_stop_would_be_noticed(folder, monkeypatch):
    """The planted bug: findings that are shown and forgotten."""
    monkeypatch.setattr(module, "_stops", lambda finding, cfg, stages: False)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_what_would_stop_a_later_stage_stops_the_run(folder)


def test_samplers_that_the_pair_cannot_have_stop_an_evaluation_before_anything_runs():
    foreign = str(ZOO / "foreign")
    stop = stopped("count", "eval", drafter=foreign, foreign=None, eval__samplers=["rdk", "slem"])
    assert "eval.samplers: rdk: the tokenizers differ" in stop
    assert "what fits: exact_match,tli" in stop.replace("union,", "")
    assert 'ARGS="eval.samplers=[slem]"' in stop
    assert "eval.samplers" not in said("count", "eval", eval__samplers=["rdk", "slem"])
    assert "warning: samplers" not in said("eval", drafter=foreign, foreign=None, eval__samplers=["tli"])
