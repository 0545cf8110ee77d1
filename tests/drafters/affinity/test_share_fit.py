"""Shares per donor: the slope is that of the acceptance, and ascent finds who should give."""

import pytest
import torch

from drafters.affinity.prior import AffinityPrior, acceptance_by_share
from drafters.affinity.share_fit import ShareFit
from drafters.samplers.proposal.rdk import RDK
from drafters.vocab.alignment import VocabMap, identity, restrict

V = 8
VOCAB = restrict(identity(V), torch.tensor([0, 1, 2, 3]))
PRIOR = AffinityPrior(torch.tensor([[4, 5, 6, 7]]).int(), torch.tensor([[0.4, 0.3, 0.2, 0.1]]), torch.zeros(4))


def laws(n, seed):
    """Where the drafter says token 0 the target says a pruned one; elsewhere both agree."""
    generator = torch.Generator().manual_seed(seed)
    said = torch.randint(4, (n,), generator=generator)
    q = (torch.randn(n, 4, generator=generator) * 0.3 + 4 * torch.nn.functional.one_hot(said, 4)).softmax(-1)
    p = torch.cat([q * 0.98, PRIOR.weight.expand(n, -1) * 0.02], 1)
    lost = torch.cat([q * 0.05, PRIOR.weight.expand(n, -1) * 0.95], 1)
    return torch.where((said == 0).unsqueeze(1), lost, p), q


def acceptance(share, p, q):
    lifted = RDK(VOCAB, AffinityPrior(PRIOR.index, PRIOR.weight, share)).lift(q)
    return torch.minimum(p, lifted).sum(-1).mean()


def test_the_slope_is_that_of_the_acceptance():
    p, q = (part.double() for part in laws(50, 0))
    fit = ShareFit(AffinityPrior(PRIOR.index, PRIOR.weight.double(), PRIOR.share), VOCAB, steps=1)
    fit.share = torch.tensor([0.31, 0.12, 0.05, 0.4]).double()
    for donor in range(4):
        moved = fit.share.clone()
        moved[donor] += 1e-7
        step = (acceptance(moved, p, q) - acceptance(fit.share, p, q)) / 1e-7
        assert float(fit.slope(p, q)[donor]) == pytest.approx(float(step), abs=1e-5)


def test_the_donor_that_is_wrong_gives_and_the_others_keep():
    fit = ShareFit(PRIOR, VOCAB, steps=60)
    for seed in range(60):
        fit.step(*laws(64, seed))
    share = fit.result().share
    assert float(share[0]) > 0.8
    assert float(share[1:].max()) < 0.1
    p, q = laws(2000, 1000)
    none, whole = (RDK(VOCAB, AffinityPrior(PRIOR.index, PRIOR.weight, torch.full((4,), e))) for e in (0.0, 1.0))
    scalar = acceptance_by_share(p, none.lift(q), whole.lift(q), torch.linspace(0, 1, 51)).max()
    assert float(acceptance(share, p, q)) > float(scalar) + 0.1


def test_other_priors_are_refused():
    with pytest.raises(ValueError, match="one row shared by all donors"):
        ShareFit(AffinityPrior(PRIOR.index.expand(4, -1), PRIOR.weight.expand(4, -1), PRIOR.share), VOCAB, 1)
    with pytest.raises(ValueError, match="a target token for every head row"):
        ShareFit(PRIOR, VocabMap(torch.tensor([0, -1]), torch.tensor([0])), 1)
