"""RDK: the worked example, exactness for any prior, and what a prior must look like."""

import pytest
import torch

from drafters.affinity.prior import AffinityPrior
from drafters.engine.drafting import chain
from drafters.engine.limits import Limits
from drafters.samplers.catalog import build
from drafters.samplers.proposal import rdk
from drafters.samplers.proposal.rdk import RDK, RDKExact
from drafters.samplers.proposal.tli import TLI
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import VocabMap, identity, restrict
from eval.lossless.exact.exact_law import exact_law, largest_error, reference_law, total_variation
from eval.lossless.toys.toy_pairs import TOYS, random_prior

VOCAB = restrict(identity(6), torch.arange(3))
P = torch.tensor([0.40, 0.20, 0.10, 0.15, 0.10, 0.05], dtype=torch.float64)
Q = torch.tensor([0.50, 0.30, 0.10], dtype=torch.float64) / 0.9
ROWS = torch.tensor(
    [[0.70, 0.05, 0.05, 0.10, 0.05, 0.05], [0.05, 0.70, 0.05, 0.10, 0.08, 0.02], [0.05, 0.05, 0.70, 0.05, 0.10, 0.05]]
)
WHOLE = AffinityPrior(torch.arange(6).expand(3, 6).int(), ROWS, torch.ones(3))


def shared(share: float) -> AffinityPrior:
    """One row r = (.5, .3, .2) on the pruned tokens for all donors."""
    return AffinityPrior(torch.tensor([[3, 4, 5]]).int(), torch.tensor([[0.5, 0.3, 0.2]]), torch.full((3,), share))


def acceptance(law):
    return float(torch.minimum(P, law).sum())


@pytest.mark.parametrize("form", [RDK, RDKExact])
def test_worked_example_of_the_whole_matrix(form):
    law = form(VOCAB, WHOLE).lift(Q)
    expected = torch.tensor([0.411111, 0.266667, 0.122222, 0.094444, 0.065556, 0.040000], dtype=torch.float64)
    torch.testing.assert_close(law, expected, rtol=0, atol=1e-6)
    assert acceptance(law) == pytest.approx(0.9, abs=1e-6)
    residual = (P - law).clamp(min=0)
    expected = torch.tensor([0, 0, 0, 0.555556, 0.344444, 0.1], dtype=torch.float64)
    torch.testing.assert_close(residual / residual.sum(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("form", [RDK, RDKExact])
@pytest.mark.parametrize(
    ("share", "accepted"), [(0, 0.70), (0.1, 0.80), (0.2, 0.888889), (0.25, 0.933333), (0.3, 0.956667), (0.4, 0.90)]
)
def test_worked_example_of_one_shared_row(form, share, accepted):
    law = form(VOCAB, shared(share)).lift(Q)
    assert acceptance(law) == pytest.approx(accepted, abs=1e-6)
    if share == 0.3:
        expected = torch.tensor([0.388889, 0.233333, 0.077778, 0.15, 0.09, 0.06], dtype=torch.float64)
        torch.testing.assert_close(law, expected, rtol=0, atol=1e-6)


def test_both_forms_are_one_law_and_sum_to_one():
    vocab = VocabMap(torch.tensor([1, 0, -1, 1, 3]), torch.tensor([1, 0, -1, 4]))  # a miss and a doubled image
    prior = random_prior(vocab, seed=1)
    q = torch.rand(4, 7, 5, dtype=torch.float64).softmax(-1) * torch.tensor([1, 1, 0, 1, 1])
    q = q / q.sum(-1, keepdim=True)
    law = RDK(vocab, prior).lift(q)
    torch.testing.assert_close(law, RDKExact(vocab, prior).lift(q), rtol=0, atol=1e-7)
    torch.testing.assert_close(law.sum(-1), torch.ones(4, 7, dtype=torch.float64), rtol=0, atol=1e-6)
    assert bool((law >= 0).all())


def test_without_share_it_is_tli_and_greedy_rows_stay():
    prior = shared(0.0)
    assert torch.equal(RDK(VOCAB, prior).lift(Q), TLI(VOCAB).lift(Q))
    greedy = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    assert torch.equal(RDK(VOCAB, shared(0.5)).lift(greedy), TLI(VOCAB).lift(greedy))


def test_renumbering_the_tokens_changes_nothing():
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    kept = order[:3]
    to_drafter = torch.full((6,), -1)
    to_drafter[kept] = torch.arange(3)
    vocab = VocabMap(kept, to_drafter)
    prior = AffinityPrior(order[WHOLE.index.long()].int(), WHOLE.weight, WHOLE.share)
    torch.testing.assert_close(RDK(vocab, prior).lift(Q)[order], RDK(VOCAB, WHOLE).lift(Q), rtol=0, atol=1e-15)


def test_the_prior_applied_after_the_draw_shows(monkeypatch):
    toy = TOYS["pruned"]
    sampler, limits = toy.sampler("rdk"), Limits(2)
    law = exact_law(sampler, lambda: Static(1), toy.pair, toy.prompt, limits)
    reference = reference_law(toy.pair, toy.prompt, limits)
    assert largest_error(law, reference) <= 1e-12
    clean = chain.draw_children

    def moves_after(q, sampler, coins, key, count=1):
        law, _ = clean(q, sampler, coins, key.at(draw=7), count)
        return law, sampler.verifier.draw(TLI(toy.pair.vocab).lift(q), coins, key, count)

    monkeypatch.setattr(chain, "draw_children", moves_after)
    law = exact_law(sampler, lambda: Static(1), toy.pair, toy.prompt, limits)
    assert total_variation(law, reference) >= 1e-3


@pytest.mark.parametrize(
    ("prior", "says"),
    [
        (AffinityPrior(WHOLE.index[:2], WHOLE.weight[:2], WHOLE.share), "index and weight \\(3, K\\)"),
        (AffinityPrior(WHOLE.index, WHOLE.weight, WHOLE.share[:2]), "share \\(3,\\)"),
        (AffinityPrior(WHOLE.index + 1, WHOLE.weight, WHOLE.share), "target ids below 6"),
        (AffinityPrior(WHOLE.index, WHOLE.weight * 2, WHOLE.share), "must be a law"),
        (AffinityPrior(WHOLE.index, WHOLE.weight * torch.nan, WHOLE.share), "must be a law"),
        (AffinityPrior(WHOLE.index, WHOLE.weight, WHOLE.share * torch.nan), "share must lie in"),
        (AffinityPrior(WHOLE.index, WHOLE.weight, WHOLE.share + 0.5), "share must lie in"),
    ],
)
def test_priors_that_do_not_fit_are_refused(prior, says):
    with pytest.raises(ValueError, match=says):
        RDK(VOCAB, prior)


def test_a_matrix_that_does_not_fit_is_refused_with_its_size(monkeypatch):
    monkeypatch.setattr(rdk, "LARGEST_MATRIX", 100)
    with pytest.raises(ValueError, match=r"3 x 6 needs .* use sampler=rdk"):
        RDKExact(VOCAB, WHOLE)


def test_samplers_say_what_they_miss():
    for name in ("rdk", "rdk_exact"):
        with pytest.raises(ValueError, match=f"'{name}' needs an affinity prior: run stage=affinity"):
            build(name, VOCAB)
