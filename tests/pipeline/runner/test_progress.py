"""What a stage says of its progress: lines where there is no terminal, each written through, a bar where there is one."""

import io
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from pipeline.runner.stage import Context


class Pipe(io.StringIO):
    """Remembers what was written through: all that the reader of a pipe has seen."""

    seen = ""

    def flush(self) -> None:
        super().flush()
        self.seen = self.getvalue()


@pytest.fixture
def pipe() -> Pipe:
    return Pipe()


@pytest.fixture
def context(tmp_path: Path, pipe: Pipe) -> Any:
    made = Context(OmegaConf.create({}), {}, tmp_path, Console(file=pipe, width=40))
    made.now = 0.0  # type: ignore[attr-defined]
    made.clock = lambda: made.now  # type: ignore[attr-defined]
    return made


def test_lines_reach_a_pipe_as_they_come_and_are_not_broken(context: Any, pipe: Pipe) -> None:
    with context.progress("Counting [target] tokens", 4e6, "bytes") as bar:
        context.now = 15.0
        bar.advance(1e6)
        bar.tick()
        assert pipe.seen == "Counting [target] tokens: 1.0 of 4.0 MB, 15 s so far, about 45 s left\n"
        bar.advance(3e6)
    assert pipe.seen.splitlines()[1:] == ["Counting [target] tokens: 4.0 of 4.0 MB, 15 s in all"]


def test_a_stage_without_progress_of_its_own_is_heard_and_one_with_it_does_not_speak_twice(
    context: Any, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats = []
    monkeypatch.setattr("pipeline.runner.stage.ticking", lambda lines: beats.append(lines) or _ticking(lines))
    with context.heartbeat("export"):
        context.now = 15.0
        beats[0].tick()
        assert pipe.seen == "export: 15 s so far\n"
        with context.progress("Reading", 3) as bar:
            context.now = 30.0
            beats[0].tick()
            bar.tick()
        assert pipe.seen.splitlines()[1:] == ["Reading: 0 of 3, 15 s so far", "Reading: 0 of 3, 15 s in all"]
        context.now = 44.0
        beats[0].tick()
        assert len(pipe.seen.splitlines()) == 3
        context.now = 45.0
        beats[0].tick()
    assert pipe.seen.splitlines()[3:] == ["export: 45 s so far"]


def test_a_terminal_shows_a_bar_and_no_lines(tmp_path: Path, pipe: Pipe) -> None:
    console = Console(file=pipe, width=100, force_terminal=True)
    context = Context(OmegaConf.create({}), {}, tmp_path, console, clock=iter(range(0, 10_000, 100)).__next__)
    with context.heartbeat("export"), context.progress("Reading", 3) as bar:
        bar.advance(2, kept=True)
    assert "Reading" in pipe.seen
    assert "so far" not in pipe.seen


def _ticking(lines: Any) -> Any:
    from eval.run.progress import ticking

    return ticking(lines)
