"""The target's law on its own text: the sum of its distributions, and which requests it is read on."""

from pathlib import Path

import pytest
import torch

from drafters.models.model_folder import open_model
from drafters.models.pair import open_checkpoint
from drafters.probs import Sampling, warp
from pipeline.count.law import LAW, ROWS, WEIGHT, expected_counts, prior_of, read_by_law

TARGET = Path(__file__).resolve().parents[3] / "drafters" / "zoo" / "pycode" / "target"


@pytest.fixture(scope="module")
def model():
    found = open_checkpoint("target", {"target": str(TARGET), "target_revision": None})
    return open_model(found.source, found.config, torch.float32, torch.device("cpu"))


@pytest.mark.floats
def test_it_is_the_sum_of_the_laws_after_each_prefix(model):
    sampling = Sampling(0.7, top_k=50)
    requests = [(torch.tensor([5, 6, 7]), torch.arange(20, 20 + ROWS + 3)), (torch.tensor([9]), torch.tensor([4]))]
    told = []
    got = expected_counts(model, requests, sampling, told.append)
    expected = torch.zeros_like(got)
    for prompt, new in requests:
        for number in range(len(new)):  # each token by a forward of its own
            with torch.no_grad():
                logits = model(input_ids=torch.cat([prompt, new[:number]])[None]).logits[0, -1]
            expected += warp(logits, sampling).double()
    assert got.sum().item() == pytest.approx(ROWS + 4, rel=1e-5)
    assert torch.allclose(got, expected, rtol=1e-3, atol=1e-5)
    assert told == [ROWS + 3, 1]


def test_half_of_the_requests_stays_unread_and_what_is_held_out_too():
    held = [number % 20 == 19 for number in range(100)]
    assert read_by_law([10] * 100, held, 0) == [False] * 100
    few = read_by_law([10] * 100, held, 200)
    assert sum(few) == 20
    odd = read_by_law([10] * 100, held, 333)  # every fourth
    assert sum(odd) == 25
    most = read_by_law([10] * 100, held, 10_000)
    assert sum(most) == 50
    every_third = read_by_law([10] * 99, held[:99], 340)
    assert not any(read and out for read, out in zip(every_third, held, strict=False))


def test_a_prior_is_worth_counts():
    law = torch.tensor([0.5, 0.25], dtype=torch.float64)
    assert prior_of({LAW: law}).equal(WEIGHT * law)
    assert prior_of({}) is None
