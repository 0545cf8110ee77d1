"""Requests that take turns in the rows of a batch: each one's output is what it is alone, and no row stands idle."""

import pytest
import torch

from drafters.engine.cache.cached_model import TransformersModel
from drafters.engine.decode import autoregressive, speculative
from drafters.engine.limits import Limits
from drafters.engine.prefill import RequestError
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import build
from drafters.stop.policies.static import Static
from eval.lossless.exact.enumeration import branches
from eval.lossless.toys.table_models import full_pair

NEW = 9
CASES = [("tli", "pruned"), ("tli", "foreign"), ("exact_match", "full"), ("rrs", "full")]


def requests(prompts):
    """Seven, ragged, and their numbers."""
    many = [*prompts, prompts[2][:3], prompts[0].flip(0), prompts[3]]
    return many, torch.arange(len(many)) + 10


@pytest.mark.floats
@pytest.mark.parametrize("sampling", [Sampling(0.0), Sampling(1.0)], ids=["greedy", "sampled"])
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_output_of_a_request_is_the_same_alone_and_in_any_batch(pairs, prompts, name, kind, sampling):
    plain, _ = pairs(kind, dtype=torch.float64)  # in fp32 a coin might fall between two batches' roundings
    many, numbers = requests(prompts)
    eos = () if sampling.greedy else (3, 11, 40)  # rows end at different times
    pair, (_, vocab) = type(plain)(plain.target, plain.drafter, eos, plain.table), pairs(kind, dtype=torch.float64)
    sampler, limits = build(name, vocab), Limits(NEW, sampling)
    alone = [
        speculative(pair, sampler, Static(3), [prompt], KeyedCoins(4, numbers[i : i + 1], strict=True), limits)
        for i, prompt in enumerate(many)
    ]
    for batch in (2, None):
        out = speculative(pair, sampler, Static(3), many, KeyedCoins(4, numbers, strict=True), limits, batch)
        assert [row.tolist() for row in out.tokens] == [one.tokens[0].tolist() for one in alone]
        assert out.rounds == [one.rounds[0] for one in alone]
    if eos:
        assert len({len(one.tokens[0]) for one in alone}) > 1


def test_plain_decoding_takes_turns_too(pairs, prompts):
    pair, _ = pairs("full", dtype=torch.float64)
    many, numbers = requests(prompts)
    limits = Limits(NEW, Sampling(1.0))
    together = autoregressive(pair, many, KeyedCoins(4, numbers), limits)
    out = autoregressive(pair, many, KeyedCoins(4, numbers), limits, batch=2)
    assert [row.tolist() for row in out.tokens] == [row.tolist() for row in together.tokens]


def test_a_row_that_keeps_the_last_requests_text_shows(pairs, prompts, monkeypatch):
    """A planted bug: the new prompt is not read."""
    pair, vocab = pairs("full")
    many, numbers = requests(prompts)

    def run():
        out = speculative(pair, build("standard", vocab), Static(3), many, KeyedCoins(4, numbers), Limits(NEW), 2)
        return [row.tolist() for row in out.tokens]

    clean = run()
    monkeypatch.setattr(
        TransformersModel, "restart", lambda self, row, tokens: self.lengths.__setitem__(row, len(tokens))
    )
    assert run() != clean


def test_work_is_done_for_full_batches(pairs, prompts, monkeypatch):
    """Seven equal requests, three at a time: three waves, not seven."""
    pair, vocab = pairs("same")
    widths = []
    extend = TransformersModel.extend

    def watched(self, tokens, *args, **kwargs):
        widths.append(tokens.shape[0])
        return extend(self, tokens, *args, **kwargs)

    monkeypatch.setattr(TransformersModel, "extend", watched)
    many = [prompts[0]] * 7
    limits = Limits(4, Sampling(0.0))
    out = speculative(pair, build("standard", vocab), Static(3), many, KeyedCoins(0, torch.arange(7)), limits, 3)
    assert set(widths) == {3}
    assert [row.tolist() for row in out.tokens] == [out.tokens[0].tolist()] * 7
    assert out.target_forwards.tolist() == [1] * 7


def test_refusals():
    pair = full_pair(3, 0)
    sampler, prompts = build("standard", pair.vocab), [torch.tensor([0])] * 2
    with pytest.raises(RequestError, match="at least 1 request at once, got 0"):
        speculative(pair, sampler, Static(1), prompts, KeyedCoins(0, torch.arange(2)), Limits(2), 0)
    with pytest.raises(RequestError, match="expected KeyedCoins"):
        speculative(pair, sampler, Static(1), prompts, next(iter(branches(2))), Limits(2), 1)
