"""Compiled forwards: the same tokens, for shapes that recur only; where compiling fails, decoding goes on without."""

import copy
import logging
from dataclasses import replace

import pytest
import torch

from drafters.engine.compiled import compiled_forward
from drafters.engine.decode import autoregressive, speculative
from drafters.engine.limits import Limits
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import build
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import identity

V = 61
LIMITS = Limits(24, Sampling(1.0))


@pytest.fixture
def pair(pairs):
    """Models of its own: what is compiled stays with a model."""
    shared, _ = pairs("full")
    return replace(shared, target=copy.deepcopy(shared.target), drafter=copy.deepcopy(shared.drafter), compile=True)


def plain(pair, prompt):
    return autoregressive(replace(pair, compile=False), [prompt], KeyedCoins(2, torch.tensor([0])), LIMITS)


def test_the_same_tokens(pair, prompts, graphs, monkeypatch):
    monkeypatch.setattr(compiled_forward, "HOT", 2)
    monkeypatch.setattr(compiled_forward, "RARE", 10**9)
    coins, sampler = KeyedCoins(2, torch.tensor([0])), build("exact_match", identity(V))
    expected = plain(pair, prompts[0]).tokens[0]
    out = autoregressive(pair, [prompts[0]], coins, LIMITS)
    assert out.tokens[0].tolist() == expected.tolist()
    assert len(graphs) == 24 - 2  # the first ones are not worth it yet
    graphs.clear()
    out = speculative(pair, sampler, Static(2), [prompts[0]], coins, LIMITS)
    assert out.tokens[0].tolist() == expected.tolist()
    assert set(graphs) >= {1, 3}


def test_a_failing_compiler_is_reported_once_and_decoding_goes_on(pair, prompts, monkeypatch, caplog):
    def broken(function, **options):
        def run(*arguments):
            raise RuntimeError("no C++ compiler found")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    with caplog.at_level(logging.WARNING, logger="drafters"):
        out = autoregressive(pair, [prompts[0]], KeyedCoins(2, torch.tensor([0])), LIMITS)
    assert out.tokens[0].tolist() == plain(pair, prompts[0]).tokens[0].tolist()
    assert [record.getMessage() for record in caplog.records] == [
        "compiling failed, going on without (compile=False saves the attempt): no C++ compiler found"
    ]


def test_batches_are_not_compiled(pair, prompts, graphs, monkeypatch):
    monkeypatch.setattr(compiled_forward, "HOT", 0)
    autoregressive(pair, prompts, KeyedCoins(2, torch.arange(4)), LIMITS)
    assert not graphs


def test_sizes_are_few():
    assert [compiled_forward.rounded(n) for n in (1, 256, 257, 512, 1025)] == [256, 256, 512, 512, 2048]


def test_only_what_comes_often_is_compiled(pair, monkeypatch):
    monkeypatch.setattr(compiled_forward, "RARE", 32)
    steps = compiled_forward.steps_of(pair.target)
    first = [steps.ready(1, 256) for _ in range(1000)]
    assert first.index(True) == compiled_forward.HOT
    assert all(first[compiled_forward.HOT :])  # once chosen, for good
    rare = [steps.ready(3, 256) for _ in range(compiled_forward.HOT + 1)]
    assert not any(rare)  # the last rounds of texts: often enough to be counted, one in a hundred
    common = [steps.ready(number, 256) for _ in range(400) for number in (1, 5)][1::2]
    assert not common[compiled_forward.HOT]
    assert common[-1]  # what was long ago counts less and less
