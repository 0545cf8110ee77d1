"""Joint law of three consecutive tokens, across rounds, of the production code with production coins.

The tables forget what was before a block of three tokens, so one request holds many independent triples, most of them
spread over two or more rounds. N and the pooling rule are fixed beforehand: 200,704 triples over 64 cells cannot miss a
total variation of 0.014 (alpha 1e-6 per assertion, power 0.999). The planted bugs must fail at a seventh of that.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

import drafters.engine.decode as decode
import drafters.samplers.verify.rejection as rejection
from drafters.coins import KeyedCoins
from drafters.engine.decode import autoregressive, speculative
from drafters.engine.limits import Limits
from drafters.probs import Sampling
from drafters.samplers.catalog import build
from drafters.samplers.draft import ABSENT, MISS, Draft, Sampler
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.verify.rejection import Rejection
from drafters.stop.static import Static
from drafters.vocab.alignment import identity, restrict
from eval.chi_square import ALPHA, detectable, p_value
from eval.law import reference_law
from eval.tables import Table, TablePair

V, BLOCK, BATCH = 4, 3, 1024
TRIPLES = 28  # per request
SAMPLING = Sampling(0.9)
PROMPT = [0, 1, 2]


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors of this size gain nothing from threads and lose much to waiting on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pair_of(kept: list[int], seed: int) -> TablePair:
    """A drafter that resembles its target, as real ones do, and knows the tokens `kept`."""
    target = Table.random(V, seed)
    noise = Table.random(V, seed + 1, scale=0.7)
    vocab = restrict(identity(V), torch.tensor(kept))
    drafter = Table((target.logits + noise.logits)[:, kept].contiguous(), BLOCK)
    return TablePair(Table(target.logits, BLOCK), drafter, vocab)


PAIRS = {"standard": pair_of([0, 1, 2, 3], 70), "exact_match": pair_of([0, 2, 3], 71), "tli": pair_of([0, 2, 3], 72)}


def cells(sequences: list[torch.Tensor]) -> np.ndarray:
    triples = torch.stack(sequences).reshape(-1, BLOCK).numpy()
    return np.bincount(triples @ np.array([V * V, V, 1]), minlength=V**3)


def target_law(pair: TablePair) -> np.ndarray:
    law = np.zeros(V**3)
    for tokens, weight in reference_law(pair, PROMPT, Limits(BLOCK, SAMPLING)).items():
        law[np.dot(tokens, [V * V, V, 1])] = weight
    return law


def sample(pair, sampler, batches, coins=KeyedCoins, triples=TRIPLES) -> np.ndarray:
    """Counts (V^3,) of the triples of `batches` x BATCH requests."""
    limits = Limits(BLOCK * triples, SAMPLING)
    counts = np.zeros(V**3, dtype=np.int64)
    for batch in range(batches):
        requests = torch.arange(batch * BATCH, (batch + 1) * BATCH)
        out = speculative(pair, sampler, Static(4), [torch.tensor(PROMPT)] * BATCH, coins(0, requests), limits)
        assert float(out.target_forwards.double().mean()) > triples / 2  # triples span rounds
        counts += cells(out.tokens)
    return counts


@pytest.mark.parametrize("name", PAIRS)
def test_joint_law_of_three_tokens(name):
    pair = PAIRS[name]
    counts = sample(pair, build(name, pair.vocab), batches=7)
    assert counts.sum() >= 200_000
    assert detectable(int(counts.sum()), V**3) < 0.014
    assert p_value(counts, target_law(pair)) >= ALPHA


def test_joint_law_of_plain_decoding():
    pair = PAIRS["standard"]
    out = autoregressive(
        pair, [torch.tensor(PROMPT)] * BATCH, KeyedCoins(0, torch.arange(BATCH)), Limits(BLOCK * TRIPLES, SAMPLING)
    )
    assert p_value(cells(out.tokens), target_law(pair)) >= ALPHA


# --- planted bugs ---


class ForgetsPurpose(KeyedCoins):
    """Draft, test and residual share a coin."""

    def uniform(self, key):
        return super().uniform(key.at(purpose="draft"))


class ForgetsRound(KeyedCoins):
    """The coins of one round are used again in the next (one noise tensor per tree slot, drawn once per prompt)."""

    def uniform(self, key):
        nodes = torch.arange(key.position.shape[1]) if key.position.ndim == 2 else 0
        return super().uniform(
            key.at(position=torch.zeros_like(key.position) + nodes, round=torch.zeros_like(key.round))
        )


class ForgetsRequest(KeyedCoins):
    """All requests of a batch share their coins."""

    def __init__(self, seed, requests):
        super().__init__(seed, requests // BATCH)


def failing(sampler=None, coins=KeyedCoins, batches=1, triples=TRIPLES) -> np.ndarray:
    pair = PAIRS["standard"]
    counts = sample(pair, sampler or build("standard", pair.vocab), batches=batches, coins=coins, triples=triples)
    assert p_value(counts, target_law(pair)) < ALPHA / 1000
    return counts


@pytest.mark.parametrize("coins", [ForgetsPurpose, ForgetsRound, ForgetsRequest])
def test_coins_that_are_not_independent(coins):
    failing(coins=coins)


def test_dependence_between_rounds_hides_from_the_first_token():
    counts = failing(coins=ForgetsRound, batches=8, triples=1)  # requests of one triple begin with a round
    first = counts.reshape(V, -1).sum(1), target_law(PAIRS["standard"]).reshape(V, -1).sum(1)
    assert p_value(*first) >= ALPHA


def test_residual_from_p(monkeypatch):
    monkeypatch.setattr(rejection, "residual", lambda p, q: p.double())
    failing()


def test_argmax_draft_with_a_soft_law(monkeypatch):
    class ArgmaxDraft(Rejection):
        def draw(self, q, coins, key, count=1):
            return q.argmax(-1, keepdim=True)

    failing(Sampler("mutant", Identity(), ArgmaxDraft()))


def test_dropping_a_token_because_of_its_probability(monkeypatch):
    clean = decode.propose_chain

    def dropping(*args, **kwargs):
        proposed = clean(*args, **kwargs)
        draft = proposed.draft
        unlikely = (draft.q.at(draft.tokens) < 0.3).cumsum(1) > 0
        tokens = torch.where(unlikely, MISS, draft.tokens)
        return replace(proposed, draft=Draft(tokens, torch.where(unlikely, ABSENT, draft.parent), draft.q))

    monkeypatch.setattr(decode, "propose_chain", dropping)
    failing()
