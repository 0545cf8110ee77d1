"""A chain drafted by one piece of compiled code: the tokens, laws and counts of drafting one by one."""

from dataclasses import replace

import pytest
import torch

from drafters.affinity.prior import AffinityPrior
from drafters.engine.cache.cached_model import TransformersModel
from drafters.engine.compiled import compiled_forward
from drafters.engine.decode import speculative
from drafters.engine.drafting import compiled_chain
from drafters.engine.drafting.compiled_chain import CompiledChain
from drafters.engine.limits import Limits
from drafters.probs import Sampling
from drafters.rng.coins import Key, KeyedCoins, draw_by
from drafters.samplers.catalog import build
from drafters.samplers.draft import Sampler
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.proposal.rdk import RDK
from drafters.samplers.proposal.tli import TLI
from drafters.samplers.verify.block import Block
from drafters.samplers.verify.exact_match import ExactMatch
from drafters.samplers.verify.rejection import Rejection
from drafters.stop.policies.confidence import Confidence
from drafters.stop.policies.heuristic import Heuristic
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import VocabMap, identity
from tests.drafters.engine.conftest import V, compile_only, make_pair, performed
from tests.tiers import slow_but

ONE = Sampling(1.0)
VERIFIERS = Rejection(), Block(), ExactMatch()
FLAT = {"num_hidden_layers": 1}  # where the depth is no part of what is shown: Dynamo takes half as long
SAMPLINGS = {"T0": Sampling(0.0), "T1": ONE, "warped": Sampling(0.8, 7, 0.9)}
TRACES = "Dynamo: two pieces of code, 2 to 4 s"


@pytest.fixture(autouse=True)
def at_once(monkeypatch, graphs):
    monkeypatch.setattr(compiled_forward, "HOT", 0)
    monkeypatch.setattr(compiled_forward, "RARE", 10**9)
    compile_only(monkeypatch, CompiledChain)  # together with compiled verification: see test_verification.py


@pytest.fixture
def chains(monkeypatch):
    """How many tokens each chain drafted at once was given."""
    return performed(monkeypatch, CompiledChain, lambda work, tokens: tokens.shape[1])


def decode(pair, sampler, compile, sampling=ONE, length=3, prompt=(5, 17, 2, 40, 8), tokens=24, request=0):
    """In fp64: what is compiled may round otherwise, which there never decides a draw."""
    coins = KeyedCoins(3, torch.tensor([request]), strict=not compile)  # compiled code notes no uses
    pair, limits = replace(pair, compile=compile), Limits(tokens, sampling)
    return speculative(pair, sampler, Static(length), [torch.tensor(prompt)], coins, limits)


def same(one, other):
    assert one.tokens[0].tolist() == other.tokens[0].tolist()
    assert one.rounds == other.rounds


@pytest.mark.parametrize("sampling", slow_but("T1", SAMPLINGS, TRACES))
@pytest.mark.parametrize("kind", slow_but("pruned", ["full", "same", "pruned"], TRACES))
def test_the_tokens_and_rounds_of_drafting_one_by_one(kind, sampling, chains, pairs):
    sampling = SAMPLINGS[sampling]
    pair, vocab = pairs(kind, dtype=torch.float64)
    for verifier in VERIFIERS:
        sampler = Sampler("test", TLI(vocab) if kind == "pruned" else Identity(), verifier)
        same(decode(pair, sampler, True, sampling), decode(pair, sampler, False, sampling))
        assert len(chains) >= 3  # all rounds but the last ones, which have less room
        assert set(chains) <= {1, 2}  # tokens not read yet: two behind a chain accepted whole
        chains.clear()


@pytest.mark.floats
def test_rdk_too(chains, pairs):
    pair, vocab = pairs("pruned", dtype=torch.float64)
    rows = vocab.to_target.shape[0]
    prior = AffinityPrior(
        torch.tensor([[1, 2], [4, 5]]).repeat(rows, 1)[:rows].int(),
        torch.full((rows, 2), 0.5),
        torch.full((rows,), 0.3),
    )
    sampler = Sampler("rdk", RDK(vocab, prior), Rejection())
    same(decode(pair, sampler, True), decode(pair, sampler, False))
    assert chains


@pytest.mark.floats
def test_what_was_drawn_from_is_kept(chains, pairs, monkeypatch):
    """The verifier is given the very laws that the tokens were searched in, not what they would be if lifted again."""
    pair, vocab = pairs("pruned", dtype=torch.float64)
    searched, drafts, verify = [], [], Rejection.verify

    def noting(u, law):
        searched.append(law.clone())
        return draw_by(u, law)

    monkeypatch.setattr(
        Rejection, "verify", lambda self, p, draft, *rest: drafts.append(draft) or verify(self, p, draft, *rest)
    )
    work = CompiledChain.of(Sampler("tli", TLI(vocab), Rejection()), Static(3), ONE)
    cached = TransformersModel(pair.drafter, 1, 40, True)
    cached.extend(torch.arange(9).unsqueeze(0), logits=False)
    layers = [compiled_forward.Layer(layer.keys, layer.values) for layer in cached.cache.layers]
    with monkeypatch.context() as patch, torch.inference_mode():
        patch.setattr(
            compiled_chain, "draw_by", noting
        )  # compiled, each round would be traced again: the list has grown
        coins, place = KeyedCoins(3, torch.tensor([0])), torch.tensor([10])
        given = [torch.tensor([[7]]), torch.arange(9, 12), *work.given(Key(place, place, "draft"), coins)]
        tokens, chances, laws = work(pair.drafter, given, layers)
    assert torch.equal(laws, torch.stack(searched))
    assert laws.shape == (3, 1, V)
    for node, token in enumerate(tokens[0].tolist()):
        assert chances[node, 0] == laws[node, 0, token]
    decode(pair, Sampler("tli", TLI(vocab), Rejection()), True, prompt=(5, 17, 2, 40, 8))
    assert chains
    for draft in drafts:
        nodes = draft.tokens.shape[1]
        rows = [draft.laws.row(torch.tensor([node])) for node in range(nodes)]
        assert all(row.shape == (1, V) for row in rows)
        found = [float(row[0, token]) for row, token in zip(rows, draft.tokens[0].tolist(), strict=True)]
        assert draft.laws.at(draft.tokens)[0].tolist() == found


@pytest.mark.parametrize("length", slow_but(2, [1, 2, 5], TRACES))
def test_every_length_up_to_the_end_of_the_text(length, chains, pairs):
    # Everything is accepted: the last round has no room for a chain.
    pair, _ = pairs("same", dtype=torch.float64, **FLAT)
    sampler = Sampler("standard", Identity(), Rejection())
    for tokens in (length + 1, 2 * length + 3):
        same(
            decode(pair, sampler, True, length=length, tokens=tokens),
            decode(pair, sampler, False, length=length, tokens=tokens),
        )
    assert chains


def test_nothing_is_drafted_behind_the_end_of_a_text(chains, pairs):
    pair, _ = pairs("full", dtype=torch.float64)
    sampler, ended = Sampler("standard", Identity(), Rejection()), 0
    for request in range(12):
        eos = tuple(range(0, V, 4))
        one, other = (decode(replace(pair, eos=eos), sampler, compile, request=request) for compile in (True, False))
        same(one, other)
        ended += any(drafted < 3 for drafted, _, _ in one.rounds[0][:-1])
    assert ended
    assert chains


@pytest.mark.slow("Dynamo: two models of its own, 4 s")
def test_another_map_of_the_same_shape_shares_the_code(chains, graphs):
    pair, vocab = make_pair("pruned", torch.float64, **FLAT)
    turned = VocabMap(vocab.to_target.flip(0), torch.where(vocab.to_drafter >= 0, 20 - vocab.to_drafter, -1))
    expected = [decode(pair, Sampler("tli", TLI(some), Rejection()), False) for some in (vocab, turned)]
    assert expected[0].tokens[0].tolist() != expected[1].tokens[0].tolist()
    for some, plain in zip((vocab, turned), expected, strict=True):
        same(decode(pair, Sampler("tli", TLI(some), Rejection()), True), plain)
    codes = [key for key in compiled_forward.steps_of(pair.drafter)._direct if key[-1] is not None]
    assert len({key[-1] for key in codes}) == 1
    assert all(compiled_forward.steps_of(pair.drafter)._direct[key] for key in codes)  # without Dynamo


def test_what_depends_on_more_goes_one_by_one(chains):
    _pair, vocab = make_pair("pruned", torch.float64)
    rejection = Sampler("tli", TLI(vocab), Rejection())
    assert CompiledChain.of(rejection, Static(2), ONE) is not None
    assert CompiledChain.of(rejection, Static(0), ONE) is None
    assert CompiledChain.of(rejection, Heuristic(2), ONE) is None
    assert CompiledChain.of(rejection, Confidence(0.4), ONE) is None
    for name in ("race", "rrs"):
        assert CompiledChain.of(build(name, identity(V)), Static(2), ONE) is None, name

    class Asking(TLI):
        def __init__(self, vocab):
            super().__init__(vocab)
            self.log = []

    assert CompiledChain.of(Sampler("own", Asking(vocab), Rejection()), Static(2), ONE) is None

    class Likeliest(Rejection):
        def draw(self, q, coins, key, count=1):
            return q.argmax(-1, keepdim=True)

    assert CompiledChain.of(Sampler("own", TLI(vocab), Likeliest()), Static(2), ONE) is None  # not drawn in its place
    foreign, vocab = make_pair("foreign", torch.float64)
    decode(foreign, Sampler("tli", TLI(vocab), Rejection()), True)
    assert not chains


PLANTED = {
    "coins of another request": lambda given: [*given[:2], given[2] + 1, *given[3:]],
    "coins of the token before": lambda given: [*given[:3], given[3] - 1, *given[4:]],
    "coins of another round": lambda given: [*given[:4], given[4] + 1, *given[5:]],
    "slots one too far": lambda given: [*given[:1], given[1] + 1, *given[2:]],
    "another token": lambda given: [(given[0] + 1) % V, *given[1:]],
}


@pytest.mark.parametrize("bug", slow_but("another token", PLANTED, "Dynamo: code of its own for every bug, 2 s"))
def test_a_planted_bug_is_seen(bug, monkeypatch, chains):
    compile_only(monkeypatch, CompiledChain, lambda work, n: n == 1)
    draft = compiled_chain.CompiledChain.__call__
    monkeypatch.setattr(
        CompiledChain, "__call__", lambda self, model, given, layers: draft(self, model, PLANTED[bug](given), layers)
    )
    pair, _ = make_pair("full", torch.float64)
    sampler = Sampler("standard", Identity(), Rejection())
    one, other = decode(pair, sampler, True, tokens=40), decode(pair, sampler, False, tokens=40)
    assert chains
    with pytest.raises(AssertionError):
        same(one, other)
