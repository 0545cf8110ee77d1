"""How text is dealt out to fit, calibrate and test: by document, in shares, whatever its length."""

import types

import pytest
import torch

from pipeline.fit.text_and_models import PARTS, TextShortage, parts

SETTINGS = types.SimpleNamespace(tokens=1000, window=10, windows_per_document=2)


def tokens(windows):
    return sum(len(window) for _, window in windows)


def texts(count, length=20):
    return [torch.arange(length) for _ in range(count)]


def test_long_text_gives_each_part_its_tokens_and_no_document_to_two():
    found = parts(texts(200), SETTINGS)
    for part, share in PARTS.items():
        assert tokens(found[part]) == pytest.approx(share * SETTINGS.tokens, abs=20)
    owners = [{number for number, _ in windows} for windows in found.values()]
    assert not set.intersection(*owners)


def test_a_text_shorter_than_what_fit_alone_should_have_serves_all_three():
    """52 pieces of one file once all went to fit, and the prior was given up for want of text."""
    found = parts(texts(15), SETTINGS)
    assert {part: tokens(windows) for part, windows in found.items()} == {"fit": 180, "calibrate": 60, "test": 60}


def test_too_few_documents_are_refused_with_what_is_read_of_each():
    with pytest.raises(TextShortage, match=r"at least 3 documents.*of each document 2 x 10 tokens are read"):
        parts(texts(2), SETTINGS)
