"""What is printed into a pipe is one line a sentence; on a terminal sentences are broken between words."""

import io
import sys

import pytest

from pipeline.__main__ import console

SENTENCE = "word " * 60


@pytest.mark.parametrize(("terminal", "lines"), [(False, 1), (True, 4)])
def test_sentences_are_broken_for_terminals_only(monkeypatch, terminal, lines):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", "80")
    console().print(SENTENCE)
    assert len(stream.getvalue().rstrip().splitlines()) == lines
