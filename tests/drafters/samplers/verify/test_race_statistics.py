"""Laws of race decoding: what it puts out, and how often a draft is right; each against its formula."""

import numpy as np
import pytest
import torch

from drafters.engine.decode import speculative
from drafters.engine.limits import Limits
from drafters.rng.coins import Key, KeyedCoins
from drafters.samplers.draft import Chain, Sampler, Tree
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.tree.tunstall import tunstall
from drafters.samplers.verify.race import Race
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import identity
from eval.acceptance.optimal import race_acceptance
from eval.acceptance.race_ranks import rank_law
from eval.lossless.exact.exact_law import reference_law
from eval.lossless.toys.table_models import Table, TablePair, full_pair
from eval.stats.chi_square import ALPHA, p_value
from tests.drafters.samplers.tree.rank_value import expected_accepted
from tests.tiers import slow_but

A = (0.5, 0.3, 0.2), (0.2, 0.3, 0.5)
C = (0.4, 0.3, 0.2, 0.1), (0.1, 0.2, 0.3, 0.4)
H = (0.148, 0.042, 0.745, 0.05, 0.015), (0.496, 0.136, 0.151, 0.008, 0.209)
RHO_A = (0.63076923, 0.25796079, 0.11126997)
RHO_C = (0.54285714, 0.23333333, 0.14285714, 0.08095238)


def context_free(p, q) -> TablePair:
    """One law whatever the prefix."""
    tables = [Table(torch.tensor([law], dtype=torch.float64).log()) for law in (p, q)]
    return TablePair(*tables, identity(len(p)))


def decode(pair, shape, length, rows, new, coins=KeyedCoins, verifier=None, seed=0):
    return speculative(
        pair, Sampler("race", Identity(), verifier or Race(), shape), Static(length), [torch.tensor([0])] * rows,
        coins(seed, torch.arange(rows)), Limits(new),
    )  # fmt: skip


V, TOKENS = 3, 3
WIDE = Tree((2, 1))


def counts_of(pair, coins=KeyedCoins, verifier=None, shape=WIDE, seed=0) -> np.ndarray:
    """How often each sequence of TOKENS tokens came, in 20,000: (V, V, V). Rounds begin and end at all of the positions."""
    decoded = decode(pair, shape, 2, 20_000, TOKENS, coins, verifier, seed)
    index = torch.stack(decoded.tokens) @ torch.tensor([V**2, V, 1])
    return torch.bincount(index, minlength=V**TOKENS).numpy().reshape(V, V, V)


def law_of(pair) -> np.ndarray:
    law = np.zeros((V, V, V))
    for tokens, probability in reference_law(pair, [0], Limits(TOKENS)).items():
        law[tokens] = probability
    return law


PARTS = {
    "sequence": (),
    "pair": (2,),
    "next pair": (0,),
    "lag 2": (1,),
    "first": (1, 2),
    "second": (0, 2),
    "third": (0, 1),
}


def p_values(counts: np.ndarray, law: np.ndarray) -> dict[str, float]:
    """Of the sequences and of what is left of them after summing out some tokens."""
    return {part: p_value(counts.sum(out).ravel(), law.sum(out).ravel()) for part, out in PARTS.items()}


@pytest.mark.parametrize("seed", slow_but(0, [0, 1], "20,000 decodings, 3 s"))
def test_sequences_pairs_and_single_tokens_have_the_targets_law(seed):
    pair = full_pair(V, 100 + 2 * seed)
    assert min(p_values(counts_of(pair, seed=seed), law_of(pair)).values()) > ALPHA


class SharesNeighbours(KeyedCoins):
    """One vector of noise for two positions."""

    def winners(self, position, law, count=1):
        return super().winners(torch.where(position >= 0, position // 2, -1), law, count)


def test_noise_shared_between_positions_shows_in_pairs_only():
    """The second and third token have one vector; every token alone is perfect."""
    pair = context_free(*A)
    found = p_values(counts_of(pair, SharesNeighbours), law_of(pair))
    assert {part for part, value in found.items() if value < ALPHA / 1000} == {"sequence", "next pair"}
    assert min(found[part] for part in ("pair", "lag 2", "first", "second", "third")) > ALPHA


class Resampling(Race):
    """Draws from p again where the winner is no child."""

    def verify(self, p, draft, coins, key):
        verdict = super().verify(p, draft, coins, key)
        missed = (verdict.accepted == 0) & draft.present.any(-1)
        fresh = coins.draw(p[:, 0], key.at(purpose="residual"))
        return type(verdict)(verdict.nodes, verdict.accepted, torch.where(missed, fresh, verdict.next_token))


@pytest.mark.slow("20,000 decodings, 3 s")
def test_resampling_after_a_mismatch_shows():
    pair = context_free(*A)
    found = p_values(counts_of(pair, verifier=Resampling(), shape=Chain()), law_of(pair))
    assert found["first"] < ALPHA / 1000
    assert found["sequence"] < ALPHA / 1000


def ranks(p, q, verifier=None, races=40_000, count=None) -> np.ndarray:
    """How often the target's token was the r-th child, and how often none: (children + 1,)."""
    coins, key = KeyedCoins(5, torch.arange(races)), Key(torch.full((races,), 9), None, "draft")
    p, q = (torch.tensor(law, dtype=torch.float64).expand(races, -1) for law in (p, q))
    children = (verifier or Race()).draw(q, coins, key, count or p.shape[1])
    winner = coins.winners(key.position, p)
    hit = children == winner
    rank = torch.where(hit.any(-1), hit.int().argmax(-1), children.shape[1])
    return np.bincount(rank.numpy(), minlength=children.shape[1] + 1)


def z_scores(counts: np.ndarray, law: np.ndarray) -> np.ndarray:
    """Deviations in standard deviations."""
    difference = counts - counts.sum() * law
    spread = np.sqrt(counts.sum() * np.clip(law * (1 - law), 1e-18, None))
    return difference / spread


@pytest.mark.parametrize(("laws", "rho"), [(A, RHO_A), (C, RHO_C), (H, None)])
def test_rank_law(laws, rho):
    exact = rank_law(*(torch.tensor(law, dtype=torch.float64) for law in laws), ranks=len(laws[0])).numpy()
    if rho is not None:
        assert np.abs(exact - rho).max() < 1e-7
    assert np.abs(z_scores(ranks(*laws)[:-1], exact)).max() < 4


class Sorted(Race):
    """The same children, the likeliest first: lossless, but the ranks that tree shapes count on are gone."""

    def draw(self, q, coins, key, count=1):
        children = super().draw(q, coins, key, count)
        return children.gather(1, q.gather(1, children).argsort(-1, descending=True))


class SlotKeyed(Race):
    """The drafter's noise belongs to the tree slot."""

    def draw(self, q, coins, key, count=1):
        return super().draw(q, coins, key.at(position=key.position + 1000), count)


@pytest.mark.parametrize("mutant", [Sorted, SlotKeyed])
def test_a_planted_bug_shows_in_the_ranks(mutant):
    assert np.abs(z_scores(ranks(*A, verifier=mutant())[:-1], np.array(RHO_A))).max() > 10


@pytest.mark.parametrize("laws", [A, C, H, ((0.5, 0.5, 0.0), (0.0, 0.3, 0.7)), ((0.2, 0.8), (0.2, 0.8))])
def test_acceptance_of_one_draft(laws):
    p, q = laws
    exact = float(race_acceptance(torch.tensor(p, dtype=torch.float64), torch.tensor(q, dtype=torch.float64)))
    direct = sum(
        1 / sum(max(q[j] / q[i], p[j] / p[i]) for j in range(len(p))) for i in range(len(p)) if p[i] > 0 and q[i] > 0
    )
    assert exact == pytest.approx(direct, abs=1e-12)
    counts = ranks(p, q, count=1)
    assert np.abs(z_scores(counts, np.array([exact, 1 - exact]))).max() < 4


@pytest.mark.parametrize(
    ("laws", "shape", "length", "accepted"),
    [
        (A, Chain(), 1, 0.630769), (A, Chain(), 2, 1.028639), (A, Chain(), 3, 1.279603),
        (C, Chain(), 3, 0.997528), (A, Tree((2, 2)), 2, 1.678571), (C, Tree((2, 2)), 2, 1.378662),
        (C, tunstall(RHO_C, 4), 3, 1.230861), (C, tunstall(RHO_C, 16), 5, expected_accepted(tunstall(RHO_C, 16), RHO_C)),
    ],
)  # fmt: skip
def test_accepted_tokens_of_a_round(laws, shape, length, accepted):
    """Published expected lengths, measured in the engine's own counts."""
    rows = 4000
    decoded = decode(context_free(*laws), shape, length, rows, length + 1)
    first = np.array([rounds[0][2] for rounds in decoded.rounds])
    assert abs(first.mean() - accepted) < 4 * first.std() / np.sqrt(rows)
