"""The law on kept tokens and the rest is the whole law, summed; loss and gradient are those of the whole loss."""

import pytest
import torch

from pipeline.cut.columns import Columns, Head, agreement, divergence, rest_logit, with_rest

V, H, N = 23, 6, 9
KEPT = torch.tensor([0, 2, 3, 7, 11, 19])


@pytest.fixture(params=[(1.0, None), (0.7, 1.5)], ids=["plain", "warm and capped"])
def head(request):
    torch.manual_seed(0)
    temperature, cap = request.param
    return Head(torch.randn(V, H), torch.randn(V), cap, temperature)


@pytest.fixture
def hidden():
    torch.manual_seed(1)
    return torch.randn(N, H), torch.randn(N, H)


def folded(law):
    """A whole law (n, V) on the columns."""
    return torch.cat([law[:, KEPT], 1 - law[:, KEPT].sum(-1, keepdim=True)], -1)


def test_the_teachers_law_is_the_whole_one_summed(head, hidden):
    logits = head(hidden[0])
    found = with_rest(head.rows(KEPT)(hidden[0]), logits.logsumexp(-1))
    torch.testing.assert_close(found, folded(logits.softmax(-1)))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_loss_and_gradient_with_every_other_token_sampled(head, hidden, weight):
    """Then nothing is estimated: autograd through the whole vocabulary says the same."""
    student, teacher = hidden
    columns = Columns.of(head, KEPT, chunk=4)
    loss, gradient = columns.loss(student, teacher, head(teacher).logsumexp(-1), columns.others, weight)
    own = student.clone().requires_grad_(True)
    expected = divergence(folded(head(own).softmax(-1)).log(), folded(head(teacher).softmax(-1)), weight) / N
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    torch.testing.assert_close(gradient, own.grad, rtol=1e-4, atol=1e-6)


def test_the_divergence_is_kl_then_total_variation():
    q, p = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.75, 0.25]])
    kl = 0.75 * torch.tensor(1.5).log() + 0.25 * torch.tensor(0.5).log()
    assert float(divergence(q, p, 0.0)) == pytest.approx(float(kl), abs=1e-6)
    assert float(divergence(q, p, 1.0)) == pytest.approx(0.25)
    assert float(divergence(q, p, 0.5)) == pytest.approx(float(kl) / 2 + 0.125, abs=1e-6)


def test_a_sample_estimates_the_mass_of_the_others_without_bias(head, hidden):
    """The mean over all samples of one size of exp(estimate) is the mass itself: each id is in as many of them."""
    columns, student = Columns.of(head, KEPT), hidden[0]
    logits = head.rows(columns.others)(student)
    size = len(columns.others)
    pairs = torch.combinations(torch.arange(size), 2)
    estimates = torch.stack([rest_logit(logits[:, pair], size) for pair in pairs]).exp().mean(0)
    torch.testing.assert_close(estimates, logits.logsumexp(-1).exp())
    forgotten = torch.stack([logits[:, pair].logsumexp(-1) for pair in pairs]).exp().mean(0)  # planted: not scaled up
    assert not torch.allclose(forgotten, logits.logsumexp(-1).exp(), rtol=0.5)


def test_everything_kept_leaves_no_rest(head, hidden):
    student, teacher = hidden
    columns = Columns.of(head, torch.arange(V))
    loss, _ = columns.loss(student, teacher, head(teacher).logsumexp(-1), columns.others, 1.0)
    p, q = head(teacher).softmax(-1), head(student).softmax(-1)
    assert loss == pytest.approx(float((p - q).abs().sum(-1).mean() / 2), rel=1e-5)


def test_measured_acceptance_is_one_minus_total_variation(head, hidden):
    student, teacher = hidden
    p, q = head(teacher).softmax(-1), head(student).softmax(-1)
    accepted, equal = agreement(head, student, teacher, head(teacher).logsumexp(-1), chunk=4)
    assert accepted / N == pytest.approx(float(1 - (p - q).abs().sum(-1).mean() / 2), rel=1e-5)
    assert equal == int((p.argmax(-1) == q.argmax(-1)).sum())
    same, _ = agreement(head, teacher, teacher, head(teacher).logsumexp(-1))
    assert same == pytest.approx(N, rel=1e-5)
