"""The sample of documents: all of little text, a uniform part of much, the same again in every run."""

import pytest
import torch

from pipeline.count import documents
from pipeline.count.documents import LEAST, Sample, Sampled


def sample(numbers, size=100) -> Sample[int]:
    made: Sample[int] = Sample()
    for number in numbers:
        split = "heldout" if number % 20 == 19 else "train"
        made.offer(Sampled(number, split, "", number), size)
    return made


def test_little_text_is_all_there(tmp_path):
    made = sample(range(60))
    documents.write(tmp_path, made, lambda number: torch.arange(number % 3))
    found = documents.read(tmp_path)
    assert found.complete
    assert [item.number for item in found.documents] == list(range(60))
    assert [item.split for item in found.documents].count("heldout") == 3
    assert all(item.content.tolist() == list(range(item.number % 3)) for item in found.documents)


def test_of_much_text_a_uniform_part_is_kept_within_its_bytes(tmp_path, monkeypatch):
    monkeypatch.setitem(documents.BYTES, "train", 40_000)
    made = sample(range(4000))
    documents.write(tmp_path, made, lambda number: torch.tensor([number]))
    found = documents.read(tmp_path)
    train = [item.number for item in found.documents if item.split == "train"]
    assert not found.complete
    assert len(train) == 400
    # the mean of 400 of 3,800 numbers without replacement: sd 4000 / sqrt(12 * 400) * sqrt(1 - 400 / 3800) = 55
    assert sum(train) / 400 == pytest.approx(2000, abs=4 * 55)
    documents.write(tmp_path, sample(range(4000)), lambda number: torch.tensor([number]))
    assert [item.number for item in documents.read(tmp_path).documents if item.split == "train"] == train


def test_long_documents_are_held_nevertheless():
    made = sample(range(200), size=10**7)
    assert len([item for item in made.documents() if item.split == "train"]) == LEAST


def test_counts_of_before_have_no_sample(tmp_path):
    assert documents.read(tmp_path).documents == []
