"""`make watch` on the embedded pair: what a terminal, a terminal without colours and a pipe show, races, Ctrl-C."""

import functools
import io
import json
import os
import signal

import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console

from drafters.engine.rounds import Round, Writer
from drafters.io.manifest import write_manifest
from drafters.io.paths import ZOO
from eval.command_line import OptionError
from pipeline.__main__ import COMMANDS
from pipeline.config import hydra_config
from pipeline.errors import ConfigError
from pipeline.runner.content_key import external_hash
from pipeline.runner.stage import pair_external
from pipeline.watch import opened as opening
from pipeline.watch import watch as command
from pipeline.watch.lane import Lane, turns
from pipeline.watch.opened import newest_package, opened, package_of
from pipeline.watch.options import WatchOptions, asks_for_a_package, read_words
from pipeline.watch.screen import STYLES, frame, written

PROMPT = "def add(a, b):\n"


@pytest.fixture(scope="module")
def cfg():
    return hydra_config.load(["stage=package", "device=cpu"])


@pytest.fixture(scope="module", autouse=True)
def _loaded_once():
    load = opening.load_pair
    with pytest.MonkeyPatch.context() as patch:
        one = functools.cache(lambda: load(target=ZOO / "target", drafter=ZOO / "drafter", foreign=False, device="cpu"))
        patch.setattr(opening, "load_pair", lambda *given, **more: one())
        yield


@pytest.fixture(scope="module")
def watched(cfg):
    torch.set_num_threads(1)
    made = {}

    def get(**options):
        key = tuple(sorted(options.items()))
        if key not in made:
            made[key] = opened(cfg, WatchOptions(prompt=PROMPT, max_new_tokens=24, **options), "none")
        return made[key]

    return get


def shown(call, options, terminal, width=120, height=40, **more):
    """What a console of this kind shows of a whole watch, and the exit status."""
    screen = Console(file=io.StringIO(), width=width, height=height, force_terminal=terminal, record=True, **more)
    status = command.watch(call, options, screen, "pycode, without a package")
    return screen.file.getvalue(), screen.export_text(), status


@pytest.mark.parametrize(("width", "beside"), [(120, True), (79, False)])
def test_a_race_on_a_terminal(watched, width, beside):
    options = WatchOptions(race=True)
    raw, _, status = shown(watched(), options, True, width, color_system="standard", no_color=False)
    last = raw[raw.rindex("standard, the whole drafter") :]
    assert status == 0
    assert ("plain decoding" in last.splitlines()[0]) is beside
    assert last.count("24 tokens") == 2
    assert last.count("tokens/s") == 2
    assert "\x1b[32maccepted draft" in last  # the legend is in its colours
    assert last.rstrip().replace("\n", " ").endswith("the same text, token for token")


def test_colours_are_those_of_the_writers(watched):
    (lane,) = watched().lanes(False)
    list(turns([lane]))
    text = written(lane, False)
    assert text.plain == "".join(piece for piece, _ in lane.text)
    styled = [(text.plain[span.start : span.end], span.style) for span in text.spans]
    assert styled == [(piece, STYLES[who]) for piece, who in lane.text if STYLES[who]]
    rounds = list(watched().rounds(True))
    assert lane.tokens == [token for each in rounds for token in each.tokens.tolist()]
    assert sum(lane.who.values()) == len(lane.tokens) == 24
    assert all(lane.who[who] == sum(each.who.count(who) for each in rounds) for who in Writer)


def test_without_colours_writers_can_still_be_told(watched):
    raw, *_ = shown(watched(), WatchOptions(), True, no_color=True, color_system="standard")
    assert "\x1b[32m" not in raw
    assert "\x1b[1;4mcorrection" in raw
    assert "\x1b[3mbonus" in raw


def test_a_pipe_gets_plain_text_and_a_summary(watched):
    call = watched()
    raw, text, status = shown(call, WatchOptions(), False)
    tokens = torch.cat([each.tokens for each in call.rounds(True)])
    answer = call.models.target_tokenizer.decode(tokens, skip_special_tokens=True)
    assert status == 0
    assert "\x1b" not in raw
    assert f"{PROMPT}\n{answer}\n" in raw
    assert "standard, the whole drafter: 24 tokens | " in raw
    assert "accepted draft " in text
    marks, *_ = shown(call, WatchOptions(marks=True), False)
    assert "‹correction " in marks  # noqa: RUF001
    assert marks.count("«") - 1 == int(raw.partition("bonus ")[2].split()[0])  # and one in the legend


def test_long_texts_show_their_ends_while_they_grow_and_are_whole_at_last():
    lane = Lane("t", lambda: iter(()), transcript=None, text=[(f"line {n}\n", Writer.PLAIN) for n in range(50)])
    screen = Console(file=io.StringIO(), width=60, height=12, force_terminal=True)
    with screen.capture() as capture:
        screen.print(frame(screen, [lane], False, screen.height))
    now = capture.get()
    with screen.capture() as capture:
        screen.print(frame(screen, [lane], False))
    whole = capture.get()
    assert len(now.splitlines()) <= 12
    assert "line 49" in now
    assert "line 0\n" not in now.replace(" \n", "\n")
    assert all(f"line {n}" in whole for n in range(50))


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 1.0, "sampler": "exact_match"}, {"temperature": 1.0, "sampler": "race"}]
)
def test_racing_texts_are_equal_where_they_should_be(watched, options):
    call = watched(**options)
    drafting, plain = call.lanes(True)
    list(turns([drafting, plain]))
    assert call.coupled
    assert drafting.tokens == plain.tokens
    assert set(plain.who) == {Writer.PLAIN}
    assert drafting.who[Writer.ACCEPTED] > 0
    assert not watched(temperature=1.0).coupled


def test_a_sampler_that_changed_the_text_would_be_told(watched, monkeypatch):
    call = watched()
    genuine = type(call).rounds

    def wrong(self, drafts, ids=None, tokens=None):
        for each in genuine(self, drafts, ids, tokens):
            counts = each.drafted, each.verified, each.accepted
            yield Round.of([token + drafts for token in each.tokens.tolist()], counts, each.seconds)

    monkeypatch.setattr(type(call), "rounds", wrong)
    _, text, status = shown(call, WatchOptions(race=True), False)
    assert "OTHER TEXT FROM TOKEN 1 ON, and no tie explains it" in text
    assert status == 0


@pytest.mark.parametrize("terminal", [True, False])
def test_ctrl_c_ends_with_the_summary(watched, monkeypatch, terminal):
    step = Lane.step

    def interrupted(self):
        if len(self.tokens) >= 8:
            signal.raise_signal(signal.SIGINT)
        step(self)

    monkeypatch.setattr(Lane, "step", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        raw, _, status = shown(watched(), WatchOptions(), terminal)
    finally:
        signal.signal(signal.SIGINT, before)
    assert status == 130
    assert "tokens/s" in raw
    assert raw.rstrip().endswith("interrupted: this is what there was")


def test_the_command_line(capsys):
    assert COMMANDS["watch"] == command.__name__
    words = ["prompt=x = {1: '$y'}", "race=true", "pair=local", "pair.target=DIR", "package=D", "package.lookahead=3"]
    options, others = read_words(words)
    assert (options.prompt, options.race, options.package) == ("x = {1: '$y'}", True, "D")
    assert others == ["pair=local", "pair.target=DIR", "package.lookahead=3"]
    assert asks_for_a_package(others)
    assert not asks_for_a_package(["pair=smollm2", "pair.target=DIR", "device=cpu"])
    with pytest.raises(OptionError, match="did you mean prompt="):
        read_words(["promt=x"])
    with pytest.raises(OptionError, match=r"stop\.length=3: expected one of prompt="):
        read_words(["stop.length=3"])
    with pytest.raises(OptionError, match="max_new_tokens=0"):
        read_words(["max_new_tokens=0"])
    assert command.main(["--help"]) == 0
    assert "race=false" in capsys.readouterr().out


def test_the_command_runs_without_a_package(capsys):
    assert command.main(["package=none", "max_new_tokens=6", "threads=1", "device=cpu"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("pycode, without a package; T = 0, cpu\ndef count_words")
    assert "6 tokens | " in out


def test_the_newest_package_of_the_pair_is_taken(cfg, tmp_path):
    pair = pair_external(cfg)
    hashes = {role: external_hash(role, where) for role, where in pair.items()}
    made = [
        ("old", hashes),
        ("new", hashes | {"licence": "0"}),
        ("other", hashes | {"target": "0"}),
        (".partial", hashes),
    ]
    for age, (name, external) in enumerate(made):
        folder = tmp_path / "package" / name
        folder.mkdir(parents=True)
        (folder / "file").write_text(json.dumps(name))
        write_manifest(folder, kind="package", key=name, config={}, inputs={}, extra={"external": external})
        os.utime(folder / "manifest.json", (1000 + age, 1000 + age))
    (tmp_path / "package" / "unfinished").mkdir()
    assert newest_package(tmp_path, pair) == tmp_path / "package" / "new"
    assert newest_package(tmp_path / "nowhere", pair) is None


def test_without_a_package_the_whole_drafter_drafts(cfg, tmp_path):
    cfg = OmegaConf.merge(cfg, {"runs_dir": str(tmp_path)})
    console = Console(record=True, width=200)
    assert package_of(cfg, False, console) == "none"
    assert "make package prunes it" in console.export_text()
    assert not list(tmp_path.iterdir())


def test_of_a_long_prompt_both_ends_are_shown():
    assert command.shortened("a short one") == "a short one"
    assert command.shortened("begin " + "x" * 90 + " end", most=20) == "begin xxxx\n[80 characters]\nxxxxxx end"


def test_a_wrong_sampler_is_told_in_a_sentence(cfg):
    with pytest.raises(ConfigError, match="did you mean 'tli'"):
        opened(cfg, WatchOptions(sampler="tly"), "none")
