"""README and docs are true: commands exist and compose, code runs, links lead somewhere, figures are measured ones."""

from __future__ import annotations

import csv
import importlib.util
import json
import runpy
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import drafters
from drafters.models.pair import load_pair
from drafters.package.recommendation.choices import Choice, Recommendation, Speedup, Target, Use
from drafters.package.recommendation.recommended_json import write_recommendation
from drafters.package.writer import Origin, describe, save_package
from drafters.vocab.alignment import identity, restrict
from eval.__main__ import COMMANDS as EVAL_COMMANDS
from eval.__main__ import split_command
from eval.command_line import read_options
from pipeline import __main__ as cli
from pipeline.config.hydra_config import check, load
from pipeline.runner.discovery import load_stage, stage_names
from pipeline.runner.stage import Context, Stage
from pipeline.watch.options import read_words
from tests import pages
from tests.pages import PAGES, ROOT
from tests.tiers import slow_but

README = pages.text(ROOT / "README.md")
MAKEFILE = pages.text(ROOT / "Makefile")
ZOO = ROOT / "drafters" / "zoo" / "pycode"
COMMANDS = list(dict.fromkeys(command for page in PAGES for command in pages.commands(pages.text(page))))
WITH_PYTHON = [page for page in PAGES if pages.blocks(pages.text(page), "python")]
SHORT = {"export": ("to", "form"), "publish": ("repo", "push", "merge", "public")}  # as the Makefile completes them
KNOWN = {"3.11": "requires-python", "2.0": "the licence", "95": "the level of every interval"}


def module_of(command: str) -> str:
    """The module of a `python -m` command."""
    words = pages.words(command)
    return words[words.index("-m") + 1] if "-m" in words else ""


def composed(command: str) -> None:
    """Compose and check what a command configures. Raises as the command line does."""
    words = pages.words(command)
    if words[0] == "make":
        stage = "eval" if words[1] == "doctor" else words[1]
        given = [f"stage={stage}"] + [
            f"{stage}.{word}" if word.partition("=")[0] in SHORT.get(stage, ()) else word
            for word in pages.arguments(command)
        ]
    else:
        given = [word for word in words[words.index("pipeline") + 1 :] if "=" in word]
    cfg = load([word if not word.endswith("_revision=") else word + "0" * 40 for word in given])
    check(cfg)
    if "doctor" not in words:  # which tells itself what is missing
        load_stage(cfg.stage)[0].check(cfg)


def configures(command: str) -> bool:
    """Whether a command sets anything; that a stage composes without is tested with the stages."""
    words = pages.words(command)
    if "..." in command:
        return False
    if words[0] == "make":
        return words[1] in (*stage_names(), "doctor") and bool(pages.arguments(command))
    return "pipeline" in words and any("=" in word for word in words)


def test_every_target_exists() -> None:
    known = pages.make_targets(MAKEFILE) | {"<stage>"}
    assert [
        command for command in COMMANDS if command.startswith("make ") and pages.words(command)[1] not in known
    ] == []


@pytest.mark.parametrize("module", sorted({module_of(command) for command in COMMANDS if " -m " in command}))
def test_a_module_exists(module: str) -> None:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    if spec.submodule_search_locations is not None:
        assert importlib.util.find_spec(f"{module}.__main__") is not None


@pytest.mark.slow("a composition and its checks for every command: some 10 s")
def test_what_commands_configure_composes(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("eval.suites.suite", "pipeline.text.corpus"):  # the files that commands name are anyone's
        monkeypatch.setattr(f"{module}.look", lambda config: "")
    for command in COMMANDS:
        if configures(command):
            try:
                composed(command)
            except Exception as error:
                raise AssertionError(f"{command}: {error}") from error


def test_make_expands_every_command() -> None:
    for command in COMMANDS:
        words = pages.words(command)
        if words[0] == "make" and "<stage>" not in words:
            dry = subprocess.run(
                ["make", "--dry-run", "--old-file=.venv/.installed", *words[1:]],
                cwd=ROOT,
                capture_output=True,
                text=True,
            )
            assert dry.returncode == 0, f"{command}: {dry.stderr}"


@pytest.mark.parametrize(
    "command", [command for command in COMMANDS if "-m eval " in command and "--help" not in command]
)
def test_what_eval_is_told_it_understands(command: str) -> None:
    words = pages.words(command)
    name, rest = split_command(words[words.index("eval") + 1 :])
    read_options(get_type_hints(import_module(EVAL_COMMANDS[name]).main)["options"], rest)


@pytest.mark.parametrize("command", [command for command in COMMANDS if "--help" in command and " -m " in command])
def test_help_is_printed(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = module_of(command)
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(SystemExit) as left:
        runpy.run_module(module, run_name="__main__")
    assert left.value.code == 0
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make watch")])
def test_what_watch_is_told_it_understands(command: str) -> None:
    _, others = read_words([word for word in pages.arguments(command) if word != "--help"])
    assert {word.partition("=")[0] for word in others} <= {"pair"}
    check(load(["stage=package", *others]))


def test_the_configuration_is_printed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["pipeline", "stage=prune", "--cfg", "job"])
    assert cli.main() == 0
    assert "fraction: 0.25" in capfd.readouterr().out


def test_settings_named_in_the_text_compose() -> None:
    named = {setting: pages.names(page) for page in PAGES for setting in pages.settings(pages.text(page))}
    for overrides in in_rounds([setting for setting in named if "<" not in setting and "..." not in setting]):
        try:
            check(load(["stage=eval", *overrides]))
        except Exception as error:
            pages_of = {name: where for name, where in named.items() if name in overrides}
            raise AssertionError(f"{error}; of {pages_of}") from error


def in_rounds(settings: list[str]) -> list[list[str]]:
    """The settings in as few lists as set every key at most once."""
    rounds: list[dict[str, str]] = []
    for setting in settings:
        key = setting.partition("=")[0]
        free = next((chosen for chosen in rounds if key not in chosen), None)
        if free is None:
            free = {}
            rounds.append(free)
        free[key] = setting
    return [list(chosen.values()) for chosen in rounds]


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        assert dead_links(page) == [], pages.names(page)


def dead_links(page: Path) -> list[str]:
    """Relative links without a file, or without a heading there."""
    dead = []
    for link in pages.links(pages.text(page)):
        where, _, anchor = link.partition("#")
        target = (page.parent / where).resolve() if where else page
        if not target.exists() or (anchor and anchor not in pages.anchors(pages.text(target))):
            dead.append(link)
    return dead


def test_paths_named_in_the_text_exist() -> None:
    named = {(path, pages.names(page)) for page in PAGES for path in pages.paths(pages.text(page))}
    assert sorted((path, page) for path, page in named if not (ROOT / path).exists()) == []


def test_readme_is_one_page() -> None:
    assert len(README.splitlines()) <= 150
    assert len(pages.numbers(README)) <= 60


def measured() -> list[float]:
    """Every number of the committed results."""
    found: list[float] = []
    for path in sorted((ROOT / "eval" / "results").rglob("*.json")):
        found += pages.values(json.loads(path.read_text()))
    for path in sorted((ROOT / "eval" / "results").rglob("*.csv")):
        cells = [cell for row in csv.reader(path.read_text().splitlines()[1:]) for cell in row]
        found += [float(cell) for cell in cells if cell.replace(".", "", 1).isdigit()]
    return found


def unmeasured(page: str, known: list[float]) -> list[str]:
    """Numbers of a page that no result gives, to the digits shown, plainly or in percent."""
    printed: set[str] = set()
    for digits in (0, 1, 2, 3):
        printed |= {f"{abs(scale * value):.{digits}f}" for value in known for scale in (1, 100)}
    printed |= {f"{value:.0e}" for value in known}
    return [number for number in pages.numbers(page) if number not in printed and number not in KNOWN]


def test_every_figure_of_readme_was_measured() -> None:
    assert unmeasured(README, measured()) == []


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded drafter, a quarter of its head kept, with a recommendation beside it."""
    pair = load_pair(target=ZOO / "target", drafter=ZOO / "drafter", device="cpu")
    size = pair.drafter.config.vocab_size
    kept = torch.cat([torch.arange(size // 4), torch.tensor([*pair.eos])]).unique()
    description = describe(
        "pycode", Origin("target", None, None, size), Origin("drafter", None, None, size), kept=len(kept),
        foreign=False, eos=pair.eos,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("readme") / "package"
    parts = {
        "model": pair.drafter,
        "tokenizer": pair.drafter_tokenizer,
        "kept": kept,
        "vocab": restrict(identity(size), kept),
    }
    save_package(folder, **parts, description=description, licence="MIT")
    choice = Choice(
        use=Use("package", "block", {}, "static", 3), speedup=Speedup(1.2, 1.1, 1.3), predicted=1.2, prompts=8,
        temperature=1.0, reason="It was the fastest.",
    )  # fmt: skip
    content = drafters.load(folder, device="cpu").manifest.content
    names = {"pair": "pycode", "suite": "pycode", "device": "cpu", "dtype": "fp32", "threads": 1, "code": "0" * 64}
    found = Recommendation(package=content, target=Target("target", None), choices=(choice,), **names)
    write_recommendation(folder.with_name("package.recommended.json"), found)
    return folder


@pytest.mark.parametrize(
    "page", slow_but(ROOT / "README.md", WITH_PYTHON, "models decode: some 5 s a page"), ids=pages.names
)
def test_python_runs(page: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = pages.blocks(pages.text(page), "python")
    opened = drafters.load(package, device="cpu")
    assert opened.recommendation is not None
    tokenizer = AutoTokenizer.from_pretrained(ZOO / "target", pad_token="<|endoftext|>")
    tokenizer.chat_template = "{% for m in messages %}# {{ m['content'] }}\n{% endfor %}"
    ids = tokenizer("def area(width, height):", return_tensors="pt").input_ids
    scope = {
        "drafters": drafters,
        "package": opened,
        "target": AutoModelForCausalLM.from_pretrained(ZOO / "target"),
        "input_ids": ids,
        "tokenizer": tokenizer,
        **{"dataclass": dataclass, "Context": Context, "Stage": Stage},  # the page on stages says where they come from
        "__name__": "page",
    }
    monkeypatch.setitem(sys.modules, "page", type(sys)("page"))
    hub = f'"org/name", revision="{pages.PLACEHOLDERS["<40 hex digits>"]}"'
    for block in found:
        code = block.replace("/models/big", str(ZOO / "target")).replace("runs/package/<key>", str(package))
        code = code.replace(hub, repr(str(package))).replace(
            "FILE.gguf", str(ZOO / "target")
        )  # any model is found alike
        exec(compile("from __future__ import annotations\n" + code, pages.names(page), "exec"), scope)
    if "out" in scope:
        assert len(scope["out"].tokens[0]) > 0


# --- planted errors, each of which one of the tests above must see ---


def test_a_misspelt_setting_is_seen() -> None:
    with pytest.raises(Exception, match="fractoin"):
        composed('make prune ARGS="prune.fractoin=0.1"')


def test_a_missing_target_is_seen() -> None:
    assert "prnue" not in pages.make_targets(MAKEFILE)
    assert pages.commands("Run `make prnue` now.") == ["make prnue"]


def test_a_dead_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One\n\n[a](page.md#one) [b](page.md#two) [c](gone.md) [d](https://example.org)\n")
    assert dead_links(page) == ["page.md#two", "gone.md"]


def test_an_invented_figure_is_seen() -> None:
    assert unmeasured("It is 123.457x as fast, 2.56x at least.\n", [2.5559, 0.1]) == ["123.457"]


def test_commands_are_found_in_blocks_and_in_the_text() -> None:
    page = 'Do `make test`:\n\n```\nmake eval ARGS="a=b c=d"   # all of it\nls\n```\n\n```python\nmake = 1\n```\n'
    assert pages.commands(page) == ['make eval ARGS="a=b c=d"', "make test"]
    assert pages.arguments('make eval ARGS="a=b c=d"') == ["a=b", "c=d"]
