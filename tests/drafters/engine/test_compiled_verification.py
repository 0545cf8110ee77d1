"""A round verified by one piece of compiled code: the tokens and counts of the verifier called by the engine."""

from dataclasses import replace

import pytest
import torch

from drafters.affinity.prior import AffinityPrior
from drafters.engine.compiled import compiled_forward
from drafters.engine.compiled_verification import Verification, Verifications
from drafters.engine.decode import autoregressive, speculative
from drafters.engine.limits import Limits
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import build
from drafters.samplers.draft import Draft, DrawnLaws, Sampler, Verifier
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.proposal.rdk import RDK
from drafters.samplers.proposal.tli import TLI
from drafters.samplers.verify.block import Block
from drafters.samplers.verify.exact_match import ExactMatch
from drafters.samplers.verify.kseq import KSeq
from drafters.samplers.verify.race import Race
from drafters.samplers.verify.rejection import Rejection
from drafters.stop.policies.heuristic import Heuristic
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import identity
from tests.drafters.engine.conftest import V, compile_only, make_pair, performed
from tests.tiers import slow_but

ONE = Sampling(1.0)
VERIFIERS = Rejection(), Block(), ExactMatch()
PROMPT = torch.tensor([5, 17, 2, 40, 8])
# What is verified is the same however deep the models are, and Dynamo takes longer for two layers.
FLAT = {"num_hidden_layers": 1}


@pytest.fixture(autouse=True)
def at_once(monkeypatch, graphs):
    monkeypatch.setattr(compiled_forward, "HOT", 0)
    monkeypatch.setattr(compiled_forward, "RARE", 10**9)


@pytest.fixture
def rounds(monkeypatch):
    """How many drafts were verified at once, round by round."""
    return performed(monkeypatch, Verification, lambda work, tokens: work.count)


def decode(pair, sampler, compile, sampling=ONE, stop=None, tokens=24, request=0, strict=False):
    """In fp64: what is compiled may round otherwise, which there never decides a draw."""
    coins = KeyedCoins(3, torch.tensor([request]), strict)
    pair, limits = replace(pair, compile=compile), Limits(tokens, sampling)
    return speculative(pair, sampler, Static(3) if stop is None else stop, [PROMPT], coins, limits)


def same(one, other):
    assert one.tokens[0].tolist() == other.tokens[0].tolist()
    assert one.rounds == other.rounds


CASES = {
    "full": ("full", Static(3), ONE),
    "full, T = 0": ("full", Static(2), Sampling(0.0)),
    "full, no drafts": ("full", Static(0), ONE),
    "same, warped": ("same", Static(3), Sampling(0.8, 7, 0.9)),
    "pruned": ("pruned", Static(2), ONE),
    "pruned, T = 0": ("pruned", Heuristic(2), Sampling(0.0)),
    "pruned, warped": ("pruned", Heuristic(2), Sampling(0.8, 7, 0.9)),
}


@pytest.mark.parametrize("case", slow_but("pruned", CASES, "Dynamo: code for each verifier and length, 5 to 10 s"))
def test_the_tokens_and_rounds_of_verifying_outside(case, rounds, pairs, monkeypatch):
    kind, stop, sampling = CASES[case]
    compile_only(monkeypatch, Verification)  # the others of this file draft by compiled code, too
    pair, vocab = pairs(kind, dtype=torch.float64, **FLAT)
    for verifier in VERIFIERS:
        sampler = Sampler("test", TLI(vocab) if kind == "pruned" else Identity(), verifier)
        one = decode(pair, sampler, True, sampling, stop)
        same(one, decode(pair, sampler, False, sampling, stop))
        assert rounds == [drafted for drafted, _, _ in one.rounds[0]]  # every round
        rounds.clear()


@pytest.mark.slow("Dynamo: drafter and target, 4 s")
def test_rdk_drafted_one_by_one(rounds, pairs):
    pair, vocab = pairs("pruned", dtype=torch.float64, **FLAT)
    size = vocab.to_target.shape[0]
    index = torch.tensor([[1, 2], [4, 5]]).repeat(size, 1)[:size].int()
    sampler = Sampler(
        "rdk", RDK(vocab, AffinityPrior(index, torch.full((size, 2), 0.5), torch.full((size,), 0.3))), Rejection()
    )
    for request in range(4):
        one, other = (decode(pair, sampler, compile, stop=Heuristic(3), request=request) for compile in (True, False))
        same(one, other)
    assert set(rounds) > {1, 2}


@pytest.mark.slow("Dynamo: drafter and target, 4 s")
def test_the_laws_read_are_those_drawn_from(monkeypatch, pairs):
    """Bit by bit, however they were drafted: compiled, a lift could round otherwise."""
    pair, vocab = pairs("pruned", **FLAT)
    size = vocab.to_target.shape[0]
    index = torch.arange(3).repeat(size, 1).int()
    prior = AffinityPrior(index, torch.full((size, 3), 1 / 3), torch.full((size,), 0.3))
    drawn, read, draw, given = [], [], Verifier.draw, Verification.given
    monkeypatch.setattr(Verifier, "draw", lambda self, q, *rest: drawn.append(q.clone()) or draw(self, q, *rest))

    def noting(self, draft, key, coins):
        found = given(self, draft, key, coins)
        read.append(found[3 : 3 + self.count])
        return found

    monkeypatch.setattr(Verification, "given", noting)
    decode(pair, Sampler("rdk", RDK(vocab, prior), Rejection()), True, stop=Heuristic(3))
    found = [row for rows in read for row in rows]
    assert len(found) == len(drawn) > 5
    assert all(torch.equal(*pair) for pair in zip(found, drawn, strict=True))


@pytest.mark.slow("Dynamo: drafter and target, 4 s")
def test_drafts_that_missed_are_refused(rounds, pairs):
    pair, vocab = pairs("pruned", dtype=torch.float64, **FLAT)
    missed = 0
    sampler = Sampler("partial", Partial(vocab), Rejection())
    for request in range(6):
        one, other = (decode(pair, sampler, compile, request=request) for compile in (True, False))
        same(one, other)
        missed += sum(drafted < 3 for drafted, _, _ in one.rounds[0][:-1])
    assert missed
    assert len(rounds) > 12


class Partial(TLI):
    """Half of a drafter's law finds no target token."""

    total = False

    def lift(self, q):
        return super().lift(q) / 2

    def extend(self, q):
        return torch.cat([self.lift(q), 1 - self.lift(q).sum(-1, keepdim=True)], -1)


@pytest.mark.parametrize("sampling", [Sampling(0.0), Sampling(1.0)], ids=["T0", "T1"])
def test_plain_decoding(sampling, rounds, pairs):
    pair, _ = pairs("full", dtype=torch.float64, **FLAT)
    runs = [
        autoregressive(replace(pair, compile=compile), [PROMPT], KeyedCoins(3, torch.tensor([1])), Limits(9, sampling))
        for compile in (True, False)
    ]
    same(*runs)
    assert rounds == [0] * 9


def test_every_round_of_a_text_that_ends(rounds, pairs):
    pair, _ = pairs("full", dtype=torch.float64, **FLAT)
    pair = replace(pair, eos=tuple(range(0, V, 4)))
    for request in range(12):
        same(*(decode(pair, Sampler("s", Identity(), Rejection()), c, request=request) for c in (True, False)))
    assert set(rounds) == {1, 2, 3}


def test_what_takes_more_is_verified_outside(rounds, monkeypatch):
    compile_only(monkeypatch, Verification)
    pair, _ = make_pair("full", torch.float64, **FLAT)
    draft = Draft(torch.zeros(1, 0), torch.zeros(1, 0), None)
    assert Verification.of(Race(), ONE, draft) is None
    assert not KSeq().compiles  # it looks at its children on the host
    assert Verification.of(Rejection(), ONE, draft) is None  # its own error says what is missing
    assert Verification.of(ExactMatch(), ONE, draft) is not None
    laws = DrawnLaws(Identity(), [torch.ones(1, V)], [0, 0], [torch.ones(1)] * 2)
    siblings = Draft(torch.zeros(1, 2, dtype=torch.int64), torch.full((1, 2), -1), laws)
    assert Verification.of(Rejection(), ONE, siblings) is None
    decode(pair, Sampler("s", Identity(), Rejection()), True, strict=True)  # coins that note their uses
    decode(pair, build("race", identity(V)), True)
    prompts, coins = [PROMPT, PROMPT], KeyedCoins(3, torch.arange(2))
    speculative(
        replace(pair, compile=True), Sampler("s", Identity(), Rejection()), Static(2), prompts, coins, Limits(8)
    )
    assert not rounds
    assert Verifications(object(), Rejection(), ONE).verdict(PROMPT, draft, coins, None) is None


def test_a_verifier_that_knows_more_is_called_by_the_engine(rounds, monkeypatch):
    compile_only(monkeypatch, Verification)

    class Learning(Rejection):
        def __init__(self):
            self.seen = []

        def verify(self, p, draft, coins, key):
            self.seen.append(draft.tokens.shape[1])
            return super().verify(p, draft, coins, key)

    pair, _ = make_pair("full", torch.float64, **FLAT)
    verifier = Learning()
    decode(pair, Sampler("s", Identity(), verifier), True)
    assert verifier.seen
    assert not rounds


def swapped(given, one, other):
    given = list(given)
    given[one], given[other] = given[other], given[one]
    return given


PLANTED = {
    "coins of another request": lambda given: [*given[:2], given[2] + 1, *given[3:]],
    "coins of the token before": lambda given: [*given[:3], given[3] - 1, *given[4:]],
    "coins of another round": lambda given: [*given[:4], given[4] + 1, *given[5:]],
    "laws of another order": lambda given: swapped(given, 5, 6) if len(given) > 8 else given,
    "slots one too far": lambda given: [given[0], given[1] + 1, *given[2:]],
}


@pytest.mark.parametrize(
    "bug", slow_but("laws of another order", PLANTED, "Dynamo: code of its own for every bug, 2 s")
)
def test_a_planted_bug_is_seen(bug, monkeypatch, rounds):
    compile_only(monkeypatch, Verification, lambda work, n: work.count == 3)
    verify = Verification.__call__
    monkeypatch.setattr(
        Verification, "__call__", lambda self, model, given, layers: verify(self, model, PLANTED[bug](given), layers)
    )
    pair, _ = make_pair("full", torch.float64, **FLAT)
    sampler = Sampler("s", Identity(), Rejection())
    runs = [[decode(pair, sampler, compile, request=n) for n in range(6)] for compile in (True, False)]
    assert rounds
    assert [run.tokens[0].tolist() for run in runs[0]] != [run.tokens[0].tolist() for run in runs[1]]
