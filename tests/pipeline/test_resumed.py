"""What a killed run had done counts as done and not as speed, in the stages that resume."""

import json
from pathlib import Path
from typing import Any

import pytest

from eval.run.progress import Lines
from pipeline.count import shards
from pipeline.runner import stage
from pipeline.stages.count import STAGE as COUNT
from pipeline.stages.generate import STAGE as GENERATE
from tests.pipeline.pretraining import test_phase as pretraining
from tests.pipeline.stages import test_count as counts
from tests.pipeline.stages import test_generate as generation


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[Lines]:
    """All progress that is shown, in order."""
    found: list[Lines] = []
    real = stage.ticking
    monkeypatch.setattr(stage, "ticking", lambda lines: found.append(lines) or real(lines))
    return found


class Advances:
    """An `Advance` that remembers."""

    def __init__(self) -> None:
        self.done = self.kept = 0.0

    def __call__(self, n: float = 1, *, kept: bool = False) -> None:
        self.done += n
        self.kept += n * kept


def written(folder: Path, texts: list[str]) -> Path:
    """A corpus of these documents."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text, "kind": "code"}) + "\n" for text in texts))
    return path


def test_generate(tmp_path: Path, watched: list[Lines]) -> None:
    texts = [f"def function_{number}(first, second):\n    return first + second\n" for number in range(5)]
    made = generation.context(tmp_path / "out", written(tmp_path, texts))
    GENERATE.run(made)
    (made.out / "shard-00001.safetensors").unlink()  # of five requests in shards of two
    GENERATE.run(made)
    assert [(lines.total, lines.tally.done, lines.tally.kept) for lines in watched] == [(5, 5, 0), (5, 5, 3)]


def test_count(tmp_path: Path, watched: list[Lines], monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, calls, real = written(tmp_path, counts.TEXTS), [], shards.count_tokens

    def killed(*arguments: Any, **options: Any) -> Any:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        return real(*arguments, **options)

    monkeypatch.setattr(shards, "count_tokens", killed)
    with pytest.raises(KeyboardInterrupt):
        COUNT.run(counts.context(tmp_path, corpus, shard_bytes=500))
    monkeypatch.setattr(shards, "count_tokens", real)
    COUNT.run(counts.context(tmp_path, corpus, shard_bytes=500))
    first, second = (lines.tally for lines in watched)
    assert (first.kept, second.done) == (0, sum(len(text.encode()) for text in counts.TEXTS))
    assert 0 < second.kept == first.done < second.done


def test_a_finished_phase_of_pretrain(tmp_path: Path) -> None:
    first, second = Advances(), Advances()
    pretraining.run(tmp_path, 10, advance=first)
    pretraining.run(tmp_path, 10, advance=second)
    assert (first.done, first.kept) == (1000, 0)
    assert (second.done, second.kept) == (1000, 1000)


def test_a_phase_of_pretrain_that_goes_on(tmp_path: Path) -> None:
    """Checkpoints come every 200 steps: the run is ended at 250 by its schedule, and the longer one goes on from 200."""
    pretraining.run(tmp_path, 250)
    (tmp_path / "model.safetensors").unlink()
    advances = Advances()
    pretraining.run(tmp_path, 400, advance=advances)
    assert (advances.done, advances.kept) == (1000, 500)
