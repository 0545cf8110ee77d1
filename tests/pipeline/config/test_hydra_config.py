"""What the command line accepts, and how it refuses the rest: one sentence, the nearest name, no traceback."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from pipeline import __main__ as cli
from pipeline.config.hydra_config import check, load, unknown_settings
from pipeline.config.settings import corpus_of, stand_ins, suite_of
from pipeline.errors import ConfigError, PipelineError, redact
from pipeline.runner.discovery import stage_names, suggest
from pipeline.tracking import loggers


class Recorder:
    """Stands in for the runner: keeps the configuration it was given."""

    seen: Any = None
    error: BaseException | None = None

    def __init__(self, cfg: Any, console: Any, before: Any = None) -> None:
        Recorder.seen = cfg

    def run(self, name: str, only: bool) -> None:
        if Recorder.error is not None:
            raise Recorder.error


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """The command line in an empty folder: returns its status and what it printed to the terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "Runner", Recorder)
    monkeypatch.setattr(Recorder, "seen", None)
    monkeypatch.setattr(Recorder, "error", None)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pipeline", *arguments])
        try:
            status = cli.main()
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        out, err = capfd.readouterr()
        return status, out, err

    return call


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["count"], r"count: expected stage=count\n"),
        (["docter"], r"docter: expected stage=<name>, or a command; did you mean doctor\?.*inspect, track"),
        (["track"], r"folder=: expected a path, got nothing"),
        (["track", "x", "mode=onlin"], r"mode=onlin: expected one of offline, online; did you mean online\?"),
        (["inspect", "nowhere/at/all"], r"expected an existing folder"),
        ([], r"say what to make with stage=<name>: .*pretrain"),
        (["stage=pretrian"], r"stage=pretrian: no such stage; did you mean pretrain\?"),
        (["stage=pretrain", "pair=pycod"], r"pair=pycod: no such pair; did you mean pycode\?.*local.*conf/pair"),
        (["stage=pretrain", "corpus=nothing"], r"corpus=nothing: no such corpus; choose one of: .*pycode"),
        (["stage=pretrain", "suite=humanevla"], r"suite=humanevla: no such suite; did you mean humaneval\?"),
        (
            ["stage=pretrain", "pretrain.vocabluary=3"],
            r"pretrain.vocabluary: no such setting; did you mean pretrain.voc",
        ),
        (
            ["stage=pretrain", "+pretrain.vocabluary=3"],
            r"pretrain.vocabluary: no such setting; did you mean pretrain.v",
        ),
        (["stage=pretrain", "pretrain.vocabulary=many"], r"pretrain.vocabulary: Value 'many' .* converted to Integer"),
        (["stage=pretrain", "pari=pycode"], r"pari: no such setting; did you mean pair\?"),
        (["stage=pretrain", "+wandb_key=x"], r"wandb_key: no such setting"),
        (["stage=pretrain", "pair.foreign=perhaps"], r"pair.foreign: .*perhaps.*bool"),
        (["stage=pretrain", "corpus.path=[a]"], r"corpus.path: Cannot convert 'list' to string"),
        (["stage=pretrain", "device=gpu"], r"device=gpu: .*choose one of: auto, cpu, cuda, mps"),
        (["stage=pretrain", "dtype=fp16"], r"dtype=fp16: did you mean bf16\?"),
        (["stage=pretrain", "threads=0"], r"threads=0: expected a whole number from 1"),
        (
            ["stage=pretrain", "threads=null"],
            r"threads=null: expected a whole number from 1, or auto .* all .* threads=\d+$",
        ),
        (["stage=pretrain", "tracking.wandb=on"], r"tracking.wandb=on: .*offline, online"),
        (["stage=pretrain", "seed=[1"], r"seed=\[1: expected key=value"),
        (["stage=pretrain", "seed"], r"seed: expected key=value"),
        (["stage=eval", "pair.target=null"], r"pair.target: null is no value here; set it with pair.target=..."),
        (["stage=eval", "eval.temperatures=0"], r"eval.temperatures: expected a list: eval.temperatures=\[0\]"),
        (["stage=eval", "eval.more_drafters=x"], r"eval.more_drafters: expected names with values, got x"),
        (["stage=pretrain", "pair=null"], r"a group was set to null: choose one of its files by name"),
    ],
)
def test_impossible_settings_fail_before_anything_runs(run: Any, arguments: list[str], message: str) -> None:
    status, out, err = run(*arguments)
    assert status == 2
    assert re.match(f"error: .*{message}", err), err
    assert "Traceback" not in err + out
    assert len(err.strip().splitlines()) == 1
    assert Recorder.seen is None
    assert not any(path.is_file() for path in Path().rglob("*"))


def test_settings_arrive(run: Any) -> None:
    status, _, err = run("stage=pretrain", "pretrain.batch=3", "seed=5", "pair=local", "pair.target=x", "corpus.path=y")
    assert (status, err) == (0, "")
    cfg = Recorder.seen
    assert (cfg.stage, cfg.pretrain.batch, cfg.seed, cfg.pair.name) == ("pretrain", 3, 5, "local")
    assert (cfg.pair.target, cfg.corpus.path) == ("x", "y")
    assert "hydra" not in cfg


def test_missing_value_names_the_setting(run: Any) -> None:
    with pytest.raises(Exception, match="target") as caught:
        _ = load(["stage=pretrain", "pair=local"]).pair.target
    Recorder.error = caught.value
    status, _, err = run("stage=pretrain", "pair=local")
    assert (status, err) == (2, "error: pair.target: no value; set it with pair.target=...\n")


def test_printing_the_configuration_and_sweeping_work_and_leave_no_litter(run: Any) -> None:
    status, out, _ = run("stage=pretrain", "--cfg", "job")
    assert status == 0
    assert OmegaConf.create(out).device == "auto"
    assert list(Path().iterdir()) == []
    assert run("-m", "stage=pretrain", "seed=1,2")[0] == 0
    assert Recorder.seen.seed == 2
    assert [path.name for path in Path().iterdir()] == ["runs"]


def test_unexpected_error_leaves_its_traceback_in_a_log(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    Recorder.error = ZeroDivisionError("by 0123456789abcdef")
    status, out, err = run("stage=pretrain")
    assert status == 1
    assert "Traceback" not in err + out
    first, second = err.splitlines()
    assert first == "error: ZeroDivisionError: by ***"
    log = Path(second.removeprefix("traceback: ")).read_text()
    assert "ZeroDivisionError: by ***" in log
    assert "Traceback" in log
    assert "0123456789abcdef" not in log


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [(PipelineError("do this"), 2, "error: do this\n"), (KeyboardInterrupt(), 130, "interrupted; the same command")],
)
def test_expected_errors_have_their_own_status(run: Any, error: BaseException, status: int, text: str) -> None:
    Recorder.error = error
    found, _, err = run("stage=pretrain")
    assert found == status
    assert err.startswith(text)


def test_secrets_are_redacted() -> None:
    environment = {"HF_TOKEN": "a-long-secret", "MY_PASSWORD": "hunter22", "USE_TOKEN": "true", "HOME": "/home/user"}
    text = "a-long-secret hunter22 true /home/user hf_abcdefghijklmnopqrst https://user:pass@host/x"
    assert redact(text, environment) == "*** *** true /home/user *** https://***@host/x"


def test_unknown_settings_are_found_at_any_depth() -> None:
    cfg = load(["stage=pretrain", "+pretrain.target.depth=1"])
    ((name, siblings),) = unknown_settings(cfg)
    assert name == "pretrain.target.depth"
    assert "pretrain.target.layers" in siblings
    check(load(["stage=pretrain"]))


def test_suggestions() -> None:
    assert suggest("evl", ["eval", "count"]) == "did you mean eval? choose one of: count, eval"
    assert suggest("zzz", ["eval"]) == "choose one of: eval"
    assert suggest("x", []) == "choose one of: none available"
    assert "pretrain" in stage_names()


@pytest.mark.parametrize(("mode", "count"), [("disabled", 1), ("offline", 2)])
def test_tracking_writes_csv_always_and_wandb_on_request(tmp_path: Path, mode: str, count: int) -> None:
    found = loggers("toy", tmp_path / "out", mode=mode, project="drafters", runs=tmp_path)
    assert len(found) == count
    found[0].log_metrics({"loss": 1.5}, step=0)
    found[0].save()
    assert (tmp_path / "out/metrics/metrics.csv").read_text().split() == ["loss,step", "1.5,0"]
    if mode == "offline":
        assert found[1]._offline  # type: ignore[attr-defined]


def test_own_models_ask_for_own_text_and_prompts_and_stand_ins_are_named(tmp_path: Path) -> None:
    own = ["stage=eval", "pair=local", "pair.target=x", "pair.drafter=y"]
    cfg = load(own)
    with pytest.raises(ConfigError, match=r"no corpus\.path: .*corpus=local corpus\.path=.*corpus=pycode"):
        corpus_of(cfg)
    with pytest.raises(ConfigError, match=r"no suite\.path: .*suite=local suite\.path=.*suite=pycode"):
        suite_of(cfg)
    (tmp_path / "mine.txt").write_text("one")
    cfg = load([*own, f"corpus.path={tmp_path}", f"suite.path={tmp_path / 'mine.txt'}"])  # local without a word
    assert (corpus_of(cfg).source, suite_of(cfg).name, stand_ins(cfg)) == ("local", "local", [])
    said = stand_ins(load([*own, "corpus=pycode", "suite=pycode"]))
    assert [line.partition(",")[0] for line in said] == ["corpus=pycode", "suite=pycode"]
    assert stand_ins(load(["stage=eval", "pair=qwen2.5"])) == said
    assert stand_ins(load(["stage=eval"])) == []
