"""The runner makes what is missing, reuses what is whole, resumes what was cut short, and trusts nothing damaged."""

import multiprocessing
import re
from pathlib import Path
from typing import Any

import pytest

from drafters.io.manifest import ManifestError, read_manifest
from pipeline.errors import ConfigError, MissingInput, PipelineError
from pipeline.runner.seal import portable

ALL = ["numbers", "shard 0", "shard 1", "shard 2", "shard 3"]


def hidden(toys: Any, stage: str) -> list[str]:
    """What lies beside the finished directories of a stage, locks left out."""
    return sorted(
        path.name for path in (toys.runs / stage).iterdir() if path.name.startswith(".") and path.suffix != ".lock"
    )


def test_everything_missing_is_made_once_and_in_order(toys: Any) -> None:
    out = toys.runner().run("total")
    assert toys.worked() == ALL
    assert (out / "total.txt").read_text() == "400\n"
    assert out == toys.runs / "total" / toys.key("total")
    plan, *lines = toys.said().splitlines()
    assert plan == "to make: numbers -> shards -> total"
    assert [line.split()[:2] for line in lines] == [[name, "ran"] for name in ("numbers", "shards", "total")]
    for stage in ("numbers", "shards", "total"):
        manifest = read_manifest(toys.runs / stage / toys.key(stage))
        assert (manifest.kind, manifest.key) == (stage, toys.key(stage))
        assert hidden(toys, stage) == []
    assert manifest.inputs == {"numbers": toys.key("numbers"), "shards": toys.key("shards")}


def test_second_run_reuses_every_directory_and_says_so(toys: Any) -> None:
    toys.runner().run("total")
    toys.said()
    toys.runner().run("total")
    assert toys.worked() == ALL
    assert re.findall(r"(\w+) +reused +(\S+)\n", toys.said()) == [
        (stage, str(toys.runs / stage / toys.key(stage))) for stage in ("numbers", "shards", "total")
    ]


def test_only_what_depends_on_a_change_runs_again(toys: Any) -> None:
    toys.runner().run("total")
    toys.said()
    toys.runner("shards.unit=y").run("total")
    plan, *lines = toys.said().splitlines()
    assert plan == "to make: shards -> total"
    assert [line.split()[:2] for line in lines] == [
        ["numbers", "reused"],
        ["shards", "ran"],
        ["total", "ran"],
    ]
    assert len(list((toys.runs / "shards").glob("[!.]*"))) == 2


def test_failed_stage_goes_on_where_it_stopped(toys: Any) -> None:
    with pytest.raises(RuntimeError, match="shard 2 failed"):
        toys.runner("shards.fail_at=2").run("total")
    assert hidden(toys, "shards") == [f".{toys.key('shards')}.partial"]
    toys.runner().run("total")
    assert toys.worked() == ALL
    assert hidden(toys, "shards") == []


def test_a_stage_that_fails_before_it_writes_leaves_nothing(toys: Any) -> None:
    with pytest.raises(RuntimeError, match="shard 0 failed"):
        toys.runner("shards.fail_at=0").run("total")
    assert hidden(toys, "shards") == []


def test_debris_of_a_killed_process_is_swept_and_not_published(toys: Any) -> None:
    partial = toys.runs / "shards" / f".{toys.key('shards')}.partial"
    (partial / "part" / ".folder.tmp-12").mkdir(parents=True)
    (partial / "part" / ".folder.tmp-12" / "x").touch()
    (partial / "part" / ".00000.tmp-12").write_text("half a shard")
    (partial / "manifest.json").write_text('{"cut": "short"')
    out = toys.runner().run("shards")
    assert sorted(read_manifest(out).files) == [f"part/{index:05d}" for index in range(4)]


def test_sealed_partial_directory_is_only_renamed(toys: Any) -> None:
    out = toys.runner().run("shards")
    out.rename(out.with_name(f".{out.name}.partial"))
    toys.runner().run("shards")
    assert toys.worked() == ALL
    assert out.exists()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "deleted", "manifest", "foreign"])
def test_damaged_output_is_made_again_and_kept_aside(toys: Any, damage: str) -> None:
    out = toys.runner().run("shards")
    file = out / "part" / "00001"
    match damage:
        case "truncated":
            file.write_bytes(file.read_bytes()[:-1])
        case "flipped":
            file.write_bytes(b"2" + file.read_bytes()[1:])
        case "deleted":
            file.unlink()
        case "manifest":
            (out / "manifest.json").unlink()
        case "foreign":  # whole, but of another key
            text = (out / "manifest.json").read_text()
            (out / "manifest.json").write_text(text.replace(f'"key": "{out.name}"', '"key": "0000000000000000"'))
    toys.said()
    toys.runner().run("total")
    read_manifest(out)
    assert toys.worked() == ALL + ALL[1:]
    (aside,) = hidden(toys, "shards")
    assert aside.startswith(f".{out.name}.broken-")
    assert aside in toys.said()


def test_finished_output_does_not_need_its_inputs_back(toys: Any) -> None:
    toys.runner().run("total")
    for stage in ("numbers", "shards"):
        (toys.runs / stage).rename(toys.root / f"{stage} moved away")
    toys.runner().run("total")
    assert toys.worked() == ALL
    assert not (toys.runs / "numbers").exists()


def test_only_refuses_and_names_the_stage_and_the_command(toys: Any) -> None:
    with pytest.raises(MissingInput, match=r"(?s)total needs the output of stage numbers.*'numbers'.*make numbers"):
        toys.runner().run("total", only=True)
    toys.runner().run("numbers")
    with pytest.raises(MissingInput, match=r"(?s)total needs the output of stage shards.*stage=shards"):
        toys.runner().run("total", only=True)
    toys.runner().run("shards")
    assert (toys.runner().run("total", only=True) / "total.txt").exists()


def test_stages_in_a_circle_are_refused(toys: Any) -> None:
    source = "from pipeline.runner.stage import Stage\nSTAGE = Stage('{}', print, lambda cfg: {{'x': '{}'}})\n"
    toys.write("stages/hen", source.format("hen", "egg"))
    toys.write("stages/egg", source.format("egg", "hen"))
    with pytest.raises(PipelineError, match="hen -> egg -> hen"):
        toys.runner("+hen={}", "+egg={}").run("hen")


def test_unknown_stage_and_module_without_stage(toys: Any) -> None:
    with pytest.raises(ConfigError, match=r"stage=totl: no such stage; did you mean total\?"):
        toys.runner().run("totl")
    toys.write("stages/empty", "")
    with pytest.raises(PipelineError, match=r"expected STAGE = Stage\(name='empty'"):
        toys.runner().run("empty")


def test_impossible_settings_are_refused_before_anything_runs(toys: Any) -> None:
    toys.write(
        "stages/picky",
        "from pipeline.errors import ConfigError\nfrom pipeline.runner.stage import Stage\n"
        "def check(cfg):\n    raise ConfigError('picky.x: expected 1, got 2')\n"
        "STAGE = Stage('picky', print, lambda cfg: {'numbers': 'numbers'}, check=check)\n",
    )
    with pytest.raises(ConfigError, match="expected 1, got 2"):
        toys.runner().run("picky")
    assert toys.worked() == []


def _run(runner: Any) -> None:
    runner.console.quiet = True
    runner.run("total")


def test_two_runs_at_once_share_the_work(toys: Any) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_run, args=(toys.runner(),)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert toys.worked() == ALL


def test_manifest_names_no_folder_of_the_machine(toys: Any) -> None:
    toys.write(
        "stages/local",
        "from pipeline.runner.stage import Stage\n"
        "def run(context):\n    (context.out / 'x').touch()\n"
        "STAGE = Stage('local', run, config=lambda cfg: {'pair': {'target': cfg.seeds, 'names': [cfg.seeds]}})\n",
    )
    out = toys.runner().run("local")
    assert str(toys.root) not in (out / "manifest.json").read_text()
    assert read_manifest(out).config == {"pair": {"target": "seeds", "names": ["seeds"]}}
    assert portable({"a": "~/x/", "b": "runs/x", "c": 1.5, "d": None}) == {"a": "x", "b": "runs/x", "c": 1.5, "d": None}


def test_link_in_an_output_is_refused_and_nothing_published(toys: Any, tmp_path: Path) -> None:
    toys.write(
        "stages/linked",
        "from pipeline.runner.stage import Stage\ndef run(context):\n    (context.out / 'x').symlink_to('/etc/hostname')\n"
        "STAGE = Stage('linked', run, config=lambda cfg: {})\n",
    )
    with pytest.raises(ManifestError, match="symbolic link"):
        toys.runner().run("linked")
    assert list((toys.runs / "linked").glob("[!.]*")) == []
