"""Counting on a double of Ray: the same counts for any number of workers."""

import types
from functools import partial

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from drafters.vocab.counting import counts
from drafters.vocab.counting.counts import count_tokens
from pipeline.count import ray as counting
from pipeline.count.ray import RayFanout


class FakeRay:
    """Tasks run when somebody waits for them; `lazy` tasks are never ready unless waited for."""

    def __init__(self):
        self.ran = self.cancelled = 0

    def remote(self, num_cpus, max_retries):
        def make(function):
            def call(*arguments):
                self.ran += 1
                return types.SimpleNamespace(run=partial(function, *arguments))

            return types.SimpleNamespace(remote=call)

        return make

    def put(self, value):
        return value

    def wait(self, refs, num_returns=1, timeout=None):
        return ([], refs) if timeout == 0 else (refs[:num_returns], refs[num_returns:])

    def get(self, refs):
        return [ref.run() for ref in refs] if isinstance(refs, list) else refs.run()

    def cancel(self, task, force):
        self.cancelled += 1


@pytest.fixture(scope="module")
def tokenizer():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator(["def add(a, b):\n    return a + b\n"], trainer)
    return made


@pytest.fixture
def texts(monkeypatch):
    monkeypatch.setattr(counts, "BATCH_CHARACTERS", 200)
    monkeypatch.setattr(counts, "ALONE_CHARACTERS", 400)
    monkeypatch.setattr(counts, "CHECKED_CHARACTERS", 200)
    monkeypatch.setattr(counting, "BATCHES", 2)
    # the default of `batches` was bound when the class was made
    monkeypatch.setattr(counts._Meter.batches, "__defaults__", (200,))
    return [(f"d{number % 3}", f"def f{number}(x):\n    return x + {number} # é\n") for number in range(200)]


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_equals_the_local_count(tokenizer, texts, workers):
    ray = FakeRay()
    alone = count_tokens(tokenizer, texts, workers=1)
    found = count_tokens(tokenizer, texts, workers=workers, fanout=partial(RayFanout, ray))
    assert ray.ran == (workers - 1) * counting.WAITING  # the rest found no room and was counted here
    assert torch.equal(found.counts, alone.counts)
    assert found.domains.keys() == alone.domains.keys()
    assert all(torch.equal(found.domains[name], alone.domains[name]) for name in alone.domains)


def test_what_is_given_up_is_cancelled(tokenizer, texts):
    ray = FakeRay()

    def broken():
        yield from texts
        raise OSError("the corpus ended early")

    with pytest.raises(OSError, match="ended early"):
        count_tokens(tokenizer, broken(), workers=2, fanout=partial(RayFanout, ray))
    assert ray.cancelled == ray.ran > 0
