"""The counting benchmark measures both ways on the same text and says whether they agree."""

import json
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from eval.bench import counting
from eval.bench.output import BenchError
from eval.costs import timing


@pytest.fixture
def tokenizer() -> Tokenizer:
    backend = Tokenizer(models.BPE({char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return backend


def test_figures(tokenizer, monkeypatch):
    clock = iter([*[0, 1, 0, 3], *[0, 3, 0, 1], *[0, 1, 0, 3]])  # plain first, ours first, plain first
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    report = counting.measure(tokenizer, [("", "x = 1\n")] * 10, rounds=3)
    assert report["plain_seconds"] == [1, 1, 1]  # first in even rounds, second in odd ones
    assert report["ours_seconds"] == [3, 3, 3]
    assert report["ratio"] == report["ratio_low"] == report["ratio_high"] == pytest.approx(1 / 3)
    assert report["equal"] is True
    assert report["tokens"] == 60
    json.dumps(report, allow_nan=False)


def test_disagreement_is_reported(tokenizer, monkeypatch):
    real = counting.count_tokens
    monkeypatch.setattr(counting, "count_tokens", lambda tok, texts: real(tok, texts[1:]))
    assert counting.measure(tokenizer, [("", "x")] * 5, rounds=3)["equal"] is False


def test_too_few_rounds(tokenizer):
    with pytest.raises(timing.TimingError, match="at least 3"):
        counting.measure(tokenizer, [("", "x")], rounds=2)


def test_too_little_source(tmp_path, monkeypatch):
    monkeypatch.setattr(counting.sys, "prefix", str(tmp_path))
    (tmp_path / "a.py").write_text("x = 1\n")
    with pytest.raises(BenchError, match="ask for less"):
        counting.source_texts(1.0)
    assert counting.source_texts(1e-6) == [("", "x = 1\n")]
