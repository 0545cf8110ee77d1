"""Chances given the text's token, averaged over the target's law: the acceptance of the papers and of eval's other formulas."""

import math

import pytest
import torch

from drafters.probs import Sampling
from drafters.samplers.catalog import CATALOG, applies, build
from drafters.samplers.draft import Chain
from drafters.vocab.alignment import identity
from eval.acceptance.race_ranks import rank_law
from eval.expectation import chain_chances, tree_chances
from eval.expectation.expect import has_rule, target_law
from tests.eval.acceptance.enumerated_formulas import acceptance_rrs_without_replacement
from tests.eval.expectation.survival import survival_of

A = (0.5, 0.3, 0.2), (0.2, 0.3, 0.5)
B = (0.618, 0.354, 0.028), (0.373, 0.58, 0.047)
C = (0.4, 0.3, 0.2, 0.1), (0.1, 0.2, 0.3, 0.4)
# Cumulative acceptance with 1, 2, 3 drafts, from exact enumeration and linear programs of the literature's rules.
PUBLISHED = {
    tree_chances.independent: {"A": (0.7, 0.76, 0.808), "B": (0.755, 0.846385, 0.9036834), "C": (0.6, 0.72, 0.768)},
    tree_chances.tested_together: {"A": (0.7, 0.79135529, 0.85851861), "C": (0.6, 0.75, 0.79394997)},
    tree_chances.drawn_then_certain: {"A": (0.7, 0.9, 1.0), "C": (0.6, 0.76666667, 0.93333333)},
}
LAWS = {"A": A, "B": B, "C": C}
RHO = {"A": (0.63076923, 0.25796079, 0.11126997), "C": (0.54285714, 0.23333333, 0.14285714, 0.08095238)}
RACE = {"A": 0.63076923, "B": 0.75475725, "C": 0.54285714}
DRAWS = 40_000
FALSE_ALARM = 5.0  # standard errors: 6e-7 a figure


def over_text(name_or_laws):
    """p, q and the text's token, a row for each token of the vocabulary; and p itself as the rows' weights."""
    p, q = (torch.tensor(law, dtype=torch.float64) for law in LAWS.get(name_or_laws, name_or_laws))
    rows = (len(p), len(p))
    return p.expand(rows), q.expand(rows), torch.arange(len(p)), p


def mean_of(rule, name, count):
    p, q, x, weight = over_text(name)
    return weight @ rule(p, q, x, count, torch.Generator().manual_seed(0))  # (count,)


def sampled(rule, laws, count, seed=0):
    """Mean over x ~ p and over what the rule samples, with its standard error: (count,) each."""
    p, q = (torch.tensor(law, dtype=torch.float64) for law in laws)
    generator = torch.Generator().manual_seed(seed)
    x = torch.multinomial(p, DRAWS, replacement=True, generator=generator)
    found = rule(p.expand(DRAWS, -1), q.expand(DRAWS, -1), x, count, generator)
    return found.mean(0), found.std(0) / math.sqrt(DRAWS)


@pytest.mark.parametrize("rule", PUBLISHED)
def test_rules_of_siblings_have_the_published_acceptance(rule):
    for name, published in PUBLISHED[rule].items():
        for count in (1, 2, 3):
            total = float(mean_of(rule, name, count).sum())
            assert total == pytest.approx(published[count - 1], abs=6e-9), (name, count)


@pytest.mark.parametrize("name", RACE)
def test_a_race_has_the_same_winner_as_often_as_published(name):
    p, q, x, weight = over_text(name)
    assert float(weight @ chain_chances.same_winner(p, q, x)) == pytest.approx(RACE[name], abs=6e-9)


@pytest.mark.parametrize("name", RHO)
def test_arrivals_have_the_published_law_of_ranks(name):
    count = len(RHO[name])
    found, error = sampled(tree_chances.arrivals, LAWS[name], count)
    exact = rank_law(*(torch.tensor(law) for law in LAWS[name]), count)
    torch.testing.assert_close(exact, torch.tensor(RHO[name], dtype=torch.float64), rtol=0, atol=1e-8)
    assert bool(((found - exact).abs() < FALSE_ALARM * error).all())


def arrivals_of_other_noise(p, q, tokens, count, generator):
    """The planted bug: the other tokens' noise forgets that they lost the target's race."""
    q_x, p_x = (law.gather(-1, tokens.unsqueeze(-1)) for law in (q, p))
    rate = (q * p_x / q_x).scatter(1, tokens.unsqueeze(-1), 0.0)
    time = torch.empty_like(p_x).exponential_(generator=generator)
    ahead = (torch.empty_like(rate).exponential_(generator=generator) < rate * time).sum(-1)
    return torch.nn.functional.one_hot(ahead.clamp(max=count), count + 1)[:, :count].double()


def exclusive_drawn_afresh(p, q, tokens, count, generator):
    """The planted bug: earlier draws as they are drawn, not as they are given that they were rejected."""
    real, tree_chances._draw = (
        tree_chances._draw,
        lambda weights, generator: torch.multinomial(q, 1, generator=generator).squeeze(-1),
    )
    try:
        return tree_chances.exclusive(p, q, tokens, count, generator)
    finally:
        tree_chances._draw = real


@pytest.mark.parametrize(("planted", "exact"), [
    (arrivals_of_other_noise, lambda p, q: rank_law(p, q, 3)),
    (exclusive_drawn_afresh, lambda p, q: acceptance_rrs_without_replacement(p, q, 3)),
])  # fmt: skip
def test_the_same_draws_find_planted_bugs(planted, exact):
    found, error = sampled(planted, C, 3)
    law = exact(*(torch.tensor(law, dtype=torch.float64) for law in C))
    off = (found - law) / error if law.ndim else (found.sum() - law) / error.norm()
    assert float(off.abs().max()) > 2 * FALSE_ALARM


@pytest.mark.parametrize("laws", [A, B, C, ((0.5, 0.5, 0, 0), (0.25,) * 4), ((0.25,) * 4, (0.7, 0.3, 0, 0))])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_children_without_replacement_are_unbiased(laws, count):
    p, q = (torch.tensor(law, dtype=torch.float64) for law in laws)
    generator = torch.Generator().manual_seed(count)
    x = torch.multinomial(p, DRAWS, replacement=True, generator=generator)
    found = tree_chances.exclusive(p.expand(DRAWS, -1), q.expand(DRAWS, -1), x, count, generator).sum(-1)
    exact = float(acceptance_rrs_without_replacement(p, q, count))
    error = float(found.std()) / math.sqrt(DRAWS)
    assert abs(float(found.mean()) - exact) <= FALSE_ALARM * error + 1e-12
    assert error < 0.004  # it sees a bias of 2 % of acceptance


# A sampler that is added has no rule until someone writes one.
SAMPLERS = [name for name in CATALOG if applies(name, identity(3)) and has_rule(build(name, identity(3)))]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_vocabulary_of_one_token_is_always_accepted(name, temperature):
    sampler = build(name, identity(1))
    n = 5
    survival = survival_of(
        sampler, torch.zeros(n, 1), torch.zeros(n, 1), torch.zeros(n, dtype=torch.int64), torch.ones(n, dtype=torch.bool),
        Sampling(temperature), None, 4, torch.Generator().manual_seed(0),
    )  # fmt: skip
    depth = 4 if isinstance(sampler.shape, Chain) else len(sampler.shape.levels)
    inside = torch.arange(n).unsqueeze(1) + torch.arange(depth + 1) <= n
    torch.testing.assert_close(survival, inside.double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SAMPLERS)
def test_at_temperature_0_a_round_follows_the_text_as_far_as_the_drafters_choices_are_the_texts(name):
    generator = torch.Generator().manual_seed(3)
    sampler = build(name, identity(7))
    target, drafter = torch.randn(2, 30, 7, generator=generator)
    drafter[::2] = target[::2]
    drafter[4:11] = target[4:11]
    text, goes_on = target.argmax(-1), torch.ones(30, dtype=torch.bool)
    survival = survival_of(
        sampler, target, drafter, text, goes_on, Sampling(0.0), None, 3, torch.Generator().manual_seed(0)
    )
    same = torch.nn.functional.pad((drafter.argmax(-1) == text).double(), (0, 20))
    depth = survival.shape[1] - 1
    follows = torch.stack([same[:30], *[same[k : 30 + k] for k in range(1, depth)]], 1).cumprod(1)
    torch.testing.assert_close(survival[:, 1:], follows, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_token_that_rounding_left_without_probability_spoils_nothing(name, temperature):
    sampler = build(name, identity(4))
    logits = torch.tensor([[2.0, 2.0 - 1e-7, 0.0, -1.0]]).repeat(6, 1)
    text = torch.tensor([1, 0, 1, 1, 0, 1])  # at temperature 0 the other of two that are nearly equal
    sampling = Sampling(temperature, top_k=1)
    survival = survival_of(
        sampler, logits, logits, text, torch.ones(6, dtype=torch.bool), sampling, None, 3, torch.Generator().manual_seed(0)
    )  # fmt: skip
    assert bool(((survival >= 0) & (survival <= 1 + 1e-12)).all())
    law = target_law(logits, text, sampling)
    assert bool((law.gather(1, text.unsqueeze(1)) > 0).all())
    torch.testing.assert_close(law.sum(-1), torch.ones(6, dtype=torch.float64), rtol=0, atol=1e-12)


def test_what_has_no_rule():
    assert len(SAMPLERS) >= 13  # the ones that are here have a rule
    assert not has_rule(build("traversal", identity(3), {"siblings": "without"}))


def test_a_token_that_the_drafter_never_says_is_none_of_its_arrivals():
    laws = ((0.25,) * 4, (0.7, 0.3, 0.0, 0.0))  # with more children than the drafter has tokens
    found, error = sampled(tree_chances.arrivals, laws, 3)
    exact = rank_law(*(torch.tensor(law) for law in laws), 3)
    assert bool(((found - exact).abs() <= FALSE_ALARM * error + 1e-12).all())
    assert float(found.sum()) == pytest.approx(0.5, abs=0.02)
