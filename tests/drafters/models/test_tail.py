"""The low-rank tail: exact at full rank, best at each rank under its own weights, and honest about its spectrum."""

import pytest
import torch

from drafters.models.heads import PrunedHead, PruneError, TailHead
from drafters.models.tail import Moments, Spectrum, Tail, factorise
from drafters.rounding import excess, product_bound

V, H = 40, 6
KEPT = torch.tensor([0, 3, 4, 9, 20, 39])
IDS = torch.tensor([token for token in range(V) if token not in KEPT.tolist()])


@pytest.fixture(scope="module")
def given():
    """A head, skewed hidden states with a mean far from zero, and the target's laws there."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(V, H, generator=generator)
    hidden = torch.randn(400, H, generator=generator) * torch.tensor([3.0, 2, 1, 0.5, 0.2, 0.1]) + 2.0
    p = (torch.randn(400, V, generator=generator) * 2).softmax(-1)
    moments = Moments(H, V)
    for part in range(4):  # as they come, in pieces
        rows = slice(100 * part, 100 * part + 100)
        moments.add(hidden[rows], p[rows])
    return weight, hidden, p, moments


def error(tail, given):
    """Mean over contexts of the weighted squared errors of the pruned tokens' logits: what `factorise` minimises."""
    weight, hidden, p, _ = given
    found = hidden.double() @ tail.down.T.double() @ tail.up.T.double() + tail.bias.double()
    mass = p[:, IDS].double().sum(0)
    importance = 0.9 * mass / mass.sum() + 0.1 / len(IDS)
    return float(((found - hidden.double() @ weight[IDS].T.double()).square() * importance).sum(1).mean())


def test_full_rank_is_exact_and_more_rank_is_better(given):
    weight, _, _, moments = given
    tails = [factorise(weight[IDS], None, IDS, moments, rank)[0] for rank in range(1, H + 1)]
    errors = [error(tail, given) for tail in tails]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-8
    assert [tail.rank for tail in tails] == list(range(1, H + 1))


def test_no_other_tail_of_its_rank_is_nearer(given):
    weight, hidden, _, moments = given
    tail, _ = factorise(weight[IDS], None, IDS, moments, 2)
    # The plain SVD of the rows, with or without the mean state in the bias, is a tail of the same size.
    left, values, right = torch.linalg.svd(weight[IDS], full_matrices=False)
    for bias in (torch.zeros(len(IDS)), (weight[IDS] - (left[:, :2] * values[:2]) @ right[:2]) @ hidden.mean(0)):
        plain = Tail(IDS, right[:2].contiguous(), left[:, :2] * values[:2], bias)
        assert error(tail, given) < 0.9 * error(plain, given)
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):  # a minimum: any small step away is worse
        moved = [part + 1e-2 * torch.randn(part.shape, generator=generator) for part in (tail.down, tail.up, tail.bias)]
        assert error(Tail(IDS, *moved), given) > error(tail, given)


def test_the_error_is_what_the_spectrum_says(given):
    weight, _, _, moments = given
    tail, spectrum = factorise(weight[IDS], None, IDS, moments, 2)
    assert error(tail, given) == pytest.approx(float(spectrum.values[2:].square().sum()), rel=2e-3)  # but for the ridge


def test_stable_rank():
    assert Spectrum(torch.tensor([2.0, 2.0, 2.0, 0.0])).stable_rank == 3.0
    assert Spectrum(torch.tensor([5.0, 0.0])).stable_rank == 1.0
    assert Spectrum(torch.zeros(2)).stable_rank == 0.0


@pytest.mark.floats
def test_the_head_is_one_softmax_over_exact_and_approximated_rows(given):
    weight, hidden, _, moments = given
    tail, _ = factorise(weight[IDS], None, IDS, moments, H)
    head = TailHead(PrunedHead(weight[KEPT], None, KEPT, V), tail)
    torch.testing.assert_close(head(hidden), hidden @ weight.T, rtol=1e-3, atol=1e-3)
    low, _ = factorise(weight[IDS], None, IDS, moments, 1)
    logits = TailHead(PrunedHead(weight[KEPT], None, KEPT, V), low)(hidden[None])
    assert logits.shape == (1, 400, V)
    bound = product_bound(hidden, weight[KEPT])
    assert excess(logits[0][:, KEPT], hidden @ weight[KEPT].T, bound) <= 1  # exact ones stay
    assert bool(torch.isfinite(logits).all())


def test_padding_rows_stay_impossible(given):
    weight, hidden, _, moments = given
    tail, _ = factorise(weight[IDS[:-3]], None, IDS[:-3], moments, 2)
    logits = TailHead(PrunedHead(weight[KEPT], None, KEPT, V), tail)(hidden)
    assert bool(torch.isneginf(logits[:, IDS[-3:]]).all())
    assert int(torch.isfinite(logits[0]).sum()) == V - 3


def test_tails_that_do_not_fit_are_refused(given):
    weight, _, _, moments = given
    tail, _ = factorise(weight[IDS], None, IDS, moments, 2)
    for wrong in (
        Tail(IDS, tail.down[:, 1:], tail.up, tail.bias),
        Tail(torch.cat([KEPT[:1], IDS[1:]]), tail.down, tail.up, tail.bias),
        Tail(IDS + 1, tail.down, tail.up, tail.bias),
    ):
        with pytest.raises(PruneError):
            TailHead(PrunedHead(weight[KEPT], None, KEPT, V), wrong)
    with pytest.raises(ValueError, match="moments of no context"):
        factorise(weight[IDS], None, IDS, Moments(H, V), 2)
    with pytest.raises(ValueError, match="expected moments of H = 6"):
        factorise(weight[IDS], None, IDS, Moments(H - 1, V), 2)


def test_training_a_head_leaves_the_tail_it_was_made_from_alone(given):
    tail = Tail(IDS, torch.ones(2, H), torch.ones(len(IDS), 2), torch.ones(len(IDS)))
    head = TailHead(PrunedHead(given[0][KEPT], None, KEPT, V), tail)
    with torch.no_grad():
        for part in (head.down, head.up, head.tail_bias):
            part += 1.0
    assert all(bool((part == 1).all()) for part in (tail.down, tail.up, tail.bias))
