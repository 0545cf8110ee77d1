"""Stage export: the files, the drafter they may be completed from, and the command that is shown."""

import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from drafters.export.common import ExportError
from drafters.io.manifest import read_manifest
from drafters.package.recommendation.recommended_json import (
    Choice,
    Rated,
    Recommendation,
    Speedup,
    Target,
    Use,
    write_recommendation,
)
from drafters.package.writer import folder_revision
from drafters.package_error import PackageError
from pipeline.config.settings import pair_of
from pipeline.runner.stage import Context
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
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "d2t-9.npy",
        "export.json",
        "maps.safetensors",
        "t2d-9.npy",
    ]
    stage.show(ready.out, ready.inputs | stage.named(ready.cfg), ready.console)
    text = ready.console.export_text()
    assert f"--d2t-path {tmp_path}/d2t-9.npy" in text
    assert "DIR" not in text
    assert "9 ids" in json.loads((tmp_path / "export.json").read_text())["checked"]


def test_rows_come_from_no_other_drafter(tmp_path):
    with pytest.raises(PackageError, match=r"drafter\.revision.*Set pair\.drafter"):
        stage.run(context(tmp_path, "transformers"))
    source = stage.original(pair_of(context(tmp_path, "transformers").cfg), folder_revision(DRAFTER))
    assert source.folder == DRAFTER
    assert stage.original(pair_of(context(tmp_path, "transformers").cfg), None) is not None


def test_what_is_impossible_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ExportError, match="not possible today"):
        stage.check(context(tmp_path, "sglang", "full").cfg)
    with pytest.raises(ExportError, match="expected one of"):
        stage.check(context(tmp_path, None).cfg)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("org/name", "org/name"),
        (str(DRAFTER), str(DRAFTER)),
        ("drafters/zoo/pycode/target", str(DRAFTER.with_name("target"))),
    ],
)
def test_the_target_is_named_by_its_path_or_hub_name(given, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert stage.named(OmegaConf.create({"pair": {"target": given}})) == {"target": Path(said)}


def advised(folder: Path, *ways: tuple, temperature=1.0, package: str | None = None) -> Path:
    """A copy of the package, with a recommendation of these (form, sampler, stop, length) beside it."""
    copy = Path(shutil.copytree(PACKAGE, folder / "package"))
    speed = {"speedup": Speedup(1.2, 1.1, 1.3), "predicted": 1.2, "prompts": 9}
    best, *others = [Use(form, sampler, {}, stop, length) for form, sampler, stop, length in ways]
    following = tuple(Rated(use=use, **speed) for use in others)
    choice = Choice(use=best, **speed, temperature=temperature, reason="Drafts cost too much.", next=following)
    found = Recommendation(
        package=package or read_manifest(copy).content, target=Target("t", None), pair="x", suite="pycode", device="cpu",
        dtype="fp32", threads=1, code="c" * 64, choices=(choice,),
    )  # fmt: skip
    write_recommendation(copy.with_name("package.recommended.json"), found)
    return copy


TREE, CHAIN, OTHER = (
    ("package", "rrs", "static", 3),
    ("package", "block", "static", 8),
    ("unpruned", "standard", "static", 6),
)
NOTE = {
    "form": "full",
    "lookahead": 5,
    "serve_template": 'vllm serve TARGET \'{"num_speculative_tokens": "LENGTH"}\' --speculative-num-draft-tokens LENGTH+1',
}


def command(tmp_path, *ways, form="full", **more):
    return stage.draft_length({**NOTE, "form": form}, advised(tmp_path, *ways, **more))


def test_the_command_takes_the_recommended_length(tmp_path):
    length, said = command(tmp_path, TREE, OTHER, ("tail", "tail", "static", 7), CHAIN)
    assert length == 8
    assert said == ["- 8 tokens per round, as eval on cpu recommends for T = 1; measure where you serve"]


def test_a_whole_head_takes_the_length_of_the_unpruned_drafter(tmp_path):
    assert command(tmp_path, CHAIN, OTHER, form="padded")[0] == 6


@pytest.mark.parametrize(
    ("ways", "more", "said"),
    [
        ([CHAIN], {"temperature": 0.7}, []),
        ([TREE], {}, []),
        ([("package", "tli", "svip", None)], {}, []),
        ([(None, None, None, None)], {}, ["- eval on cpu found no gain from drafting at T = 1: Drafts cost too much."]),
        ([CHAIN], {"package": "d" * 64}, ["- recommendation not used: package.recommended.json: package: expected"]),
    ],
)
def test_else_the_length_that_the_package_was_prepared_for(tmp_path, ways, more, said):
    length, lines = command(tmp_path, *ways, **more)
    assert length == 5
    assert [line[: len(start)] for line, start in zip(lines, said, strict=True)] == said


def test_what_is_shown_follows_an_evaluation_that_came_later(tmp_path):
    """The export keeps its bytes; the command that is printed does not."""
    copy, out = advised(tmp_path, CHAIN), tmp_path / "out"
    out.mkdir()
    (out / "export.json").write_text(json.dumps({**NOTE, "checked": "rows", "limits": ["Greedy only"]}))
    console = Console(record=True, width=300)
    inputs = {"package": copy, "target": Path("/models/t")}
    stage.show(out, inputs, console)
    assert (
        "vllm serve /models/t '{\"num_speculative_tokens\": 8}' --speculative-num-draft-tokens 9"
        in console.export_text()
    )
    copy.with_name("package.recommended.json").unlink()
    stage.show(out, inputs, console)
    assert '"num_speculative_tokens": 5}' in console.export_text()
