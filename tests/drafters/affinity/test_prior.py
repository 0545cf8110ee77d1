"""Priors from statistics: sums, rare tokens, and the concave acceptance that chooses the share."""

import pytest
import torch

from drafters.affinity.prior import AffinityPrior, Statistics, acceptance_by_share, cooccurrence_prior, mean_prior
from drafters.samplers.proposal.rdk import RDK
from drafters.vocab.alignment import identity, restrict

V, KEPT = 8, torch.tensor([0, 1, 2, 3])
VOCAB = restrict(identity(V), KEPT)


def laws(n, size, seed, sharp=1.0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n, size, generator=generator, dtype=torch.float64) * sharp).softmax(-1)


@pytest.fixture
def statistics():
    """All pairs counted: as many donors and receivers as there are."""
    found = Statistics(V, donors=4, receivers=4)
    for seed in range(5):
        found.add(laws(40, V, seed), laws(40, 4, 100 + seed), VOCAB)
        found.seen(torch.arange(V))
    return found


def test_sums_are_those_of_all_contexts(statistics):
    p, q = (torch.cat([laws(40, size, base + seed) for seed in range(5)]) for size, base in ((V, 0), (4, 100)))
    assert statistics.positions == 200
    torch.testing.assert_close(statistics.mean, p.sum(0))
    dense = torch.zeros(4, V, dtype=torch.float64)
    dense[statistics.pair // V, statistics.pair % V] = statistics.mass
    expected = q.T @ p
    expected[:, KEPT] = 0.0
    torch.testing.assert_close(dense, expected)


def test_the_mean_prior_is_the_targets_mean_law_on_pruned_tokens(statistics):
    prior = mean_prior(statistics, VOCAB)
    assert prior.index.tolist() == [[4, 5, 6, 7]]
    torch.testing.assert_close(
        prior.weight[0].double(), statistics.mean[4:] / statistics.mean[4:].sum(), rtol=0, atol=1e-7
    )


def test_cooccurrence_finds_each_donors_own_receiver():
    found = Statistics(V)
    for donor in range(4):  # where the drafter says token d, the target says 4 + d
        p = torch.nn.functional.one_hot(torch.full((10,), 4 + donor), V).double()
        q = torch.nn.functional.one_hot(torch.full((10,), donor), 4).double()
        found.add(p, q, VOCAB)
        found.seen(torch.arange(V))
    prior = cooccurrence_prior(found, VOCAB, 1, neighbours=2)
    best = prior.index.gather(1, prior.weight.argmax(-1, keepdim=True)).flatten()
    assert best.tolist() == [4, 5, 6, 7]
    soft = 0.9 * q[:1] + 0.025  # a greedy row would keep its mass
    law = RDK(VOCAB, AffinityPrior(prior.index, prior.weight, torch.full((4,), 0.5))).lift(soft)
    assert float(law[0, 7]) > 0.4


def test_pairs_with_rare_tokens_are_not_told(statistics):
    """A token in too few documents receives what its frequency says, and no donor of its own."""
    whole = cooccurrence_prior(statistics, VOCAB, 5, neighbours=4)
    statistics.documents[6] = 4
    prior = cooccurrence_prior(statistics, VOCAB, 5, neighbours=4)

    def of_6(found):
        return torch.stack([row[index == 6][0] for index, row in zip(found.index, found.weight, strict=True)])

    assert float(of_6(whole).std()) > 0.001
    assert float(of_6(prior).max()) <= 0.1 * float(statistics.mean[6] / statistics.mean[4:].sum()) + 1e-6


def test_nothing_to_receive_is_no_prior():
    found = Statistics(V)
    assert mean_prior(found, VOCAB) is None
    assert cooccurrence_prior(found, VOCAB, 1, neighbours=4) is None


def test_acceptance_is_concave_in_the_share_and_tli_at_zero(statistics):
    prior, q, p = mean_prior(statistics, VOCAB), laws(30, 4, 7), laws(30, V, 8)
    none, whole = (AffinityPrior(prior.index, prior.weight, torch.full((4,), e)) for e in (0.0, 1.0))
    shares = torch.linspace(0, 1, 21)
    curve = acceptance_by_share(p, RDK(VOCAB, none).lift(q), RDK(VOCAB, whole).lift(q), shares)
    assert bool((curve[:-2] - 2 * curve[1:-1] + curve[2:] <= 1e-12).all())
    assert float(curve[0]) == pytest.approx(float(torch.minimum(p[:, :4], q).sum(-1).mean()), abs=1e-12)
    middle = AffinityPrior(prior.index, prior.weight, torch.full((4,), 0.5))
    direct = torch.minimum(p, RDK(VOCAB, middle).lift(q)).sum(-1).mean()
    assert float(curve[10]) == pytest.approx(float(direct), abs=1e-7)
