"""The paper's kernel: rows of covariances and of M, and its two expansions."""

import pytest
import torch

from drafters.affinity.kernels import covariance, softmax_kernel
from drafters.affinity.prior import AffinityPrior
from drafters.samplers.proposal.rdk import RDKExact
from drafters.vocab.alignment import identity, restrict

V, KEPT = 12, torch.tensor([0, 2, 3, 7])
LAWS = (torch.randn(300, V, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2).softmax(-1)
OMEGA = covariance(LAWS, KEPT)
Q = torch.tensor([[0.4, 0.3, 0.2, 0.1], [1, 0, 0, 0]], dtype=torch.float64)


def test_covariances_are_numpys_and_their_rows_sum_to_zero():
    torch.testing.assert_close(OMEGA, torch.cov(LAWS.T, correction=0)[KEPT])
    assert float(OMEGA.sum(-1).abs().max()) < 1e-15


def first_order_uniform(omega, q, tau):
    """The kernel's expansion for large tau: (1 + Omega^T q' / tau) / V; non-negative where tau >= max |Omega|."""
    return (1 + (q @ omega) / tau) / omega.shape[1]


def test_the_expansion_around_uniform_sums_to_one_and_its_error_falls_as_tau_squared():
    errors = []
    for tau in (0.1, 1.0, 10.0):
        exact, first = Q @ softmax_kernel(OMEGA, tau), first_order_uniform(OMEGA, Q, tau)
        torch.testing.assert_close(first.sum(-1), torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-14)
        errors.append(float((exact - first).abs().sum(-1).max()))
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(100, rel=0.05)
    assert bool((first_order_uniform(OMEGA, Q, float(OMEGA.abs().max())) >= 0).all())


def test_the_exact_sampler_draws_from_it():
    kernel = softmax_kernel(OMEGA, 0.01)
    vocab, every = restrict(identity(V), KEPT), torch.arange(V, dtype=torch.int32).expand(len(KEPT), -1)
    whole = AffinityPrior(every, kernel.float(), torch.ones(len(KEPT)))  # every donor gives all of its mass by its row
    law = RDKExact(vocab, whole).lift(Q[:1])
    torch.testing.assert_close(law, Q[:1] @ kernel, rtol=0, atol=1e-7)
    with pytest.raises(ValueError, match="tau must be above 0"):
        softmax_kernel(OMEGA, 0.0)


def test_renumbering_the_tokens_changes_nothing():
    order = torch.randperm(V, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(covariance(LAWS[:, order], order.argsort()[KEPT]), OMEGA[:, order])
