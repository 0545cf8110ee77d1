"""slrs at the longest match: psi against brute force, thinning against the residual, exact laws of the production engine."""

from itertools import product

import pytest
import torch

from drafters.engine.limits import Limits
from drafters.probs import Sampling, residual
from drafters.rng.coins import Key, KeyedCoins
from drafters.samplers.catalog import build
from drafters.samplers.draft import Draft, Sampler
from drafters.samplers.proposal.slrs_units import SLRSUnits
from drafters.samplers.verify.rejection import Rejection
from drafters.samplers.verify.thinning import Thinning
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import identity
from drafters.vocab.texts import spelled_texts
from drafters.vocab.units import Units
from eval.lossless.exact.exact_law import exact_law, largest_error, reference_law, total_variation
from eval.lossless.toys.text_table_models import END, spelled, worded_pair

VOCABULARIES = [
    (["a", "b", "ab", "abb"], ["a", "b"]),
    (["a", "abb", "abba", "b", "ba"], ["a", "b"]),  # "ab" is no token
    (["ab", "ba", "aab"], ["a", "b"]),  # "bb" begins with no token: a miss
    (["a", "b", "c", "abc", "ca", "cab", "bb"], ["a", "b", "c"]),
    (["a", "b", "é", "éa", "d"], ["a", "é", "b", "b"]),  # two rows of one text; "d" cannot be drafted
]


def random_laws(size, seed):
    """A law after every path, made when it is asked for."""
    generator = torch.Generator().manual_seed(seed)
    known: dict[tuple[int, ...], torch.Tensor] = {}

    def law(path):
        if path not in known:
            known[path] = torch.randn(size, generator=generator, dtype=torch.float64).mul(1.5).softmax(-1)
        return known[path]

    return law


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("target", "drafter"), VOCABULARIES)
def test_psi_is_the_law_of_the_longest_match(target, drafter, seed):
    units = Units(spelled_texts(spelled(target), spelled(drafter)))
    raw = random_laws(len(drafter), seed)

    def law(path):
        return units.law(raw(path))

    longest = max(map(len, target))
    expected = dict.fromkeys([*range(len(target)), -1], 0.0)
    for rows in product(sorted(set(units.unit.tolist())), repeat=longest):  # every text of that many units
        weight = 1.0
        for length, row in enumerate(rows):
            weight *= float(law(rows[:length])[row])
        text = "".join(drafter[row] for row in rows)
        match = max((word for word in target if text.startswith(word)), key=len, default=None)
        expected[-1 if match is None else target.index(match)] += weight
    psi = [units.psi(token, law) for token in range(len(target))]
    assert psi == pytest.approx([expected[token] for token in range(len(target))], abs=1e-14)
    assert 1.0 - sum(psi) == pytest.approx(expected[-1], abs=1e-14)


@pytest.mark.parametrize(("target", "drafter"), VOCABULARIES)
def test_psi_asks_for_the_laws_it_needs_and_no_others(target, drafter):
    units = Units(spelled_texts(spelled(target), spelled(drafter)))
    for token in range(len(target)):
        asked = set()
        raw = random_laws(len(drafter), 0)
        units.psi(token, lambda path: asked.add(path) or raw(path))  # noqa: B023
        needed = units.needed(token)
        assert asked == set(needed)
        assert all(path == () or path[:-1] in needed[:place] or path[:-1] == () for place, path in enumerate(needed))


def test_other_drafters_are_refused_by_name():
    texts = spelled_texts(spelled(["a", "ab"]), spelled(["a", "ab"]))
    with pytest.raises(ValueError, match=r"b'a' begins b'ab': use the one-token rule, slrs with rule=token"):
        Units(texts)
    with pytest.raises(ValueError, match="rule must be token or longest, got 'word'"):
        build("slrs", identity(3), {"rule": "word"})


def pair_of(seed):
    return worded_pair([END, "a", "b", "ab", "bab"], ["a", "b", END], seed)


@pytest.mark.parametrize("tries", [0, 1, 2])
@pytest.mark.parametrize("seed", [0, 7])
def test_exact_law_through_the_engine(seed, tries):
    """EnumeratingCoins takes every branch of a few thinned draws; the whole residual law ends the loop."""
    pair, limits = pair_of(seed), Limits(2)
    sampler = Sampler("slrs", SLRSUnits(pair.texts()), Thinning(tries))
    law = exact_law(sampler, lambda: Static(1), pair, [1, 3], limits)
    assert largest_error(law, reference_law(pair, [1, 3], limits)) <= 1e-12


@pytest.mark.parametrize("sampling", [Sampling(0.0), Sampling(0.7, top_k=2)])
def test_exact_law_of_warps(sampling):
    pair, limits = pair_of(3), Limits(3, sampling)
    sampler = Sampler("slrs", SLRSUnits(pair.texts()), Thinning(1))
    law = exact_law(sampler, lambda: Static(3), pair, [2], limits)
    assert largest_error(law, reference_law(pair, [2], limits)) <= 1e-12


def test_any_verifier_of_chains_reads_the_same_laws():
    pair, limits = pair_of(5), Limits(2)
    law = exact_law(Sampler("s", SLRSUnits(pair.texts()), Rejection()), lambda: Static(1), pair, [1], limits)
    assert largest_error(law, reference_law(pair, [1], limits)) <= 1e-12


def wrong(monkeypatch, owner, name, replacement, seed=0):
    pair, limits = pair_of(seed), Limits(1)
    sampler = Sampler("slrs", SLRSUnits(pair.texts()), Thinning(1))
    reference = reference_law(pair, [1, 3], limits)
    assert largest_error(exact_law(sampler, lambda: Static(1), pair, [1, 3], limits), reference) <= 1e-12
    monkeypatch.setattr(owner, name, replacement)
    return total_variation(
        exact_law(sampler, lambda: Static(1), pair, [1, 3], Limits(2)), reference_law(pair, [1, 3], Limits(2))
    )


def test_longer_tokens_forgotten_in_psi_show(monkeypatch):
    assert wrong(monkeypatch, Units, "_goes_on", lambda self, path, law: 0.0) >= 1e-3


def test_a_residual_from_the_targets_law_shows(monkeypatch):
    def fresh(self, p, laws, waiting, coins, key):
        return coins.draw(p, key.at(position=torch.where(waiting, key.position, -1), purpose="residual", draw=1))

    assert wrong(monkeypatch, Thinning, "_residual", fresh) >= 1e-3


class Fixed:
    """One law for all rows; counts its evaluations."""

    def __init__(self, law):
        self.law, self.asked = law, 0

    def of(self, tokens):
        self.asked += int((tokens >= 0).sum())
        return torch.where(tokens >= 0, self.law[tokens.clamp(min=0)], 0.0)

    def row(self, node):
        raise AssertionError("the whole law is not needed")


def test_thinning_has_the_residuals_law_and_takes_two_evaluations():
    rows = 100_000
    p = torch.tensor([0.4, 0.1, 0.3, 0.2], dtype=torch.float64)
    psi = torch.tensor([0.2, 0.5, 0.1, 0.1], dtype=torch.float64)  # a miss of 0.1
    ones, number = torch.ones(rows, dtype=torch.int64), torch.arange(rows)
    coins = KeyedCoins(3, number, strict=False)
    key = Key(position=ones, round=ones, purpose="draft")
    drawn = coins.draw(torch.cat([psi, torch.tensor([0.1])]).expand(rows, 5), key)
    tokens = torch.where(drawn < 4, drawn, -1).unsqueeze(-1)
    laws = Fixed(psi)
    verdict = Thinning().verify(p.expand(rows, 2, 4), Draft(tokens, torch.full_like(tokens, -1), laws), coins, key)
    accepted = verdict.accepted.bool()
    alpha = float(torch.minimum(p, psi).sum())
    assert abs(float(accepted.double().mean()) - alpha) < 5 * (alpha * (1 - alpha) / rows) ** 0.5
    first = torch.where(accepted, tokens[:, 0], verdict.next_token)
    for got, law, count in (
        (first, p, rows),
        (verdict.next_token[~accepted], residual(p, psi) / residual(p, psi).sum(), int((~accepted).sum())),
    ):
        share = torch.bincount(got, minlength=4).double() / count
        assert bool(((share - law).abs() <= 5 * (law * (1 - law) / count).sqrt()).all())
    # One per drafted token (a miss needs none), and on average one for the residual.
    assert laws.asked / rows == pytest.approx(0.9 + 1.0, abs=0.03)
