"""Logged laws are those of the rounds, watching changes nothing, and what is not lossless shows in the log."""

import pytest
import torch

from drafters.engine.decode import speculative
from drafters.engine.limits import Limits
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import CATALOG, build
from drafters.samplers.draft import Sampler, TokenProposal
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.verify.rejection import Rejection
from drafters.stop.policies.static import Static
from drafters.vocab.texts import Texts
from eval.acceptance.observed_laws import Observed, observe
from eval.acceptance.optimality_gap import best, draft_law, optimum
from eval.lossless.toys.table_models import TablePair, full_pair, pruned_pair
from eval.lossless.toys.text_table_models import many_to_one_pair

ROWS = 400
PAIRS = {"full": full_pair(5, 1), "pruned": pruned_pair(5, [0, 2, 4], 3)}


def watch(sampler: Sampler, pair: TablePair, temperature: float = 1.0) -> tuple[list[torch.Tensor], Observed]:
    coated, observer = observe(sampler)
    coins = KeyedCoins(0, torch.arange(ROWS))
    prompts = [torch.tensor([row % 5, row % 3]) for row in range(ROWS)]
    decoded = speculative(pair, coated, Static(2), prompts, coins, Limits(6, Sampling(temperature)))
    return decoded.tokens, observer.result()


def summary(sampler: Sampler, seen: Observed):
    return optimum(sampler, seen, seen, best(seen, *draft_law(sampler)))


@pytest.mark.parametrize("name", [name for name in CATALOG if name not in ("slem", "rdk", "rdk_exact")])
def test_watching_changes_nothing_and_rounds_do_what_their_laws_let_expect(name):
    pair = PAIRS["full" if name == "standard" else "pruned"]
    sampler = build(name, pair.vocab, tail=True)
    tokens, seen = watch(sampler, pair)
    coins = KeyedCoins(0, torch.arange(ROWS))
    prompts = [torch.tensor([row % 5, row % 3]) for row in range(ROWS)]
    plain = speculative(pair, sampler, Static(2), prompts, coins, Limits(6, Sampling(1.0))).tokens
    assert all(map(torch.equal, tokens, plain))
    found = summary(sampler, seen)
    assert found.law_rounds > ROWS
    assert found.z_at_root is None or abs(found.z_at_root) < 4.5  # None: a verifier without a formula
    assert found.tampered_rounds == 0
    assert found.lossy is None
    # races of several drafts and draws without replacement are sampled
    assert found.gap_to_optimum is None or found.gap_to_optimum > -0.02
    assert torch.allclose(seen.p.sum(-1), torch.ones(()).double())


def test_a_warp_of_the_drafters_own_is_no_tampering():
    pair = PAIRS["pruned"]
    sampler, observer = observe(build("tli", pair.vocab))
    limits = Limits(6, Sampling(0.7, top_k=3), Sampling(2.0, top_p=0.9))
    speculative(pair, sampler, Static(2), [torch.tensor([1])] * 8, KeyedCoins(0, torch.arange(8)), limits)
    assert observer.result().tampered == 0
    assert int((observer.result().p > 0).sum(-1).max()) == 3


def test_greedy_trees_with_too_few_tokens_are_logged_too():
    sampler = build("traversal", PAIRS["full"].vocab)
    _, seen = watch(sampler, PAIRS["full"], temperature=0.0)
    assert summary(sampler, seen).gap_to_optimum == 0.0
    assert summary(sampler, seen).z_at_root is None  # certain, either way


def test_string_level_drafts_have_no_law():
    pair = many_to_one_pair(1)
    assert isinstance(pair.texts(), Texts)
    assert observe(build("slem", pair.vocab, texts=pair.texts)) is None


class Drifting(TokenProposal):
    """The planted bug: the law lifted for verification is not the one lifted for drawing."""

    support, total = None, True

    def __init__(self) -> None:
        self.lifts = 0

    def lift(self, q: torch.Tensor) -> torch.Tensor:
        self.lifts += 1
        return q if self.lifts % 2 else (q**0.5) / (q**0.5).sum(-1, keepdim=True)


class Lenient(Rejection):
    """The planted bug: accepts with probability min(1, 3 p / q)."""

    def verify(self, p, draft, coins, key):
        return super().verify(p * 3, draft, coins, key)


def test_a_law_other_than_the_one_drawn_from_is_seen():
    sampler = Sampler("drifting", Drifting(), Rejection())
    _, seen = watch(sampler, PAIRS["full"])
    assert seen.tampered > 0
    assert "another law than drafts were drawn from" in summary(sampler, seen).lossy


def test_a_relaxed_acceptance_is_seen_as_more_than_the_optimum():
    sampler = Sampler("lenient", Identity(), Lenient())
    _, seen = watch(sampler, PAIRS["full"])
    found = summary(sampler, seen)
    assert "more than a lossless verifier can" in found.lossy
    assert found.measured_at_root > found.optimal_acceptance
