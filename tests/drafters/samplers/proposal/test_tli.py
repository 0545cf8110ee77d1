"""TLI lifts a drafter's law to target tokens without losing or inventing mass."""

import pytest
import torch

from drafters.engine.drafting.chain import drafting_law
from drafters.probs import Sampling, warp
from drafters.samplers.catalog import build
from drafters.samplers.proposal.tli import TLI
from drafters.vocab.alignment import VocabMap, identity, restrict

FOREIGN = VocabMap(torch.tensor([1, 0, -1, 1, 3]), torch.tensor([1, 0, -1, 4]))  # two rows for target token 1


def test_pruned_laws_land_on_their_targets():
    law = TLI(restrict(identity(5), torch.tensor([1, 4]))).lift(torch.tensor([[0.25, 0.75]]))
    assert law.tolist() == [[0.0, 0.25, 0.0, 0.0, 0.75]]


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tokens_with_one_image_add_up_and_masked_ones_vanish(shape, dtype):
    sampler = build("tli", FOREIGN)
    q = drafting_law(torch.randn(shape, dtype=dtype), sampler, Sampling())
    law = sampler.proposal.lift(q)
    assert law.shape == (*shape[:-1], 4)
    assert law.dtype == dtype
    assert torch.equal(law[..., 1], q[..., 0] + q[..., 3])
    assert torch.equal(law[..., 0], q[..., 1])
    assert not law[..., 2].any()  # no drafter token means it
    torch.testing.assert_close(law.sum(-1), torch.ones(shape[:-1], dtype=dtype))


def test_masking_comes_before_the_filters():
    """Top-1 of what the target knows, not what is left of a top-1 that it does not know."""
    sampler = build("tli", FOREIGN)
    logits = torch.tensor([[0.0, 1.0, 9.0, 0.5, 0.2]])  # the likeliest row has no target token
    law = sampler.proposal.lift(drafting_law(logits, sampler, Sampling(top_k=1)))
    assert law.tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_renormalising_equals_dividing_by_the_shared_mass():
    sampler = build("tli", FOREIGN)
    logits = torch.randn(6, 5, dtype=torch.float64)
    shared = warp(logits, Sampling())
    shared[:, 2] = 0.0
    expected = shared / shared.sum(-1, keepdim=True)
    torch.testing.assert_close(drafting_law(logits, sampler, Sampling()), expected, rtol=1e-14, atol=0)


def test_vocabularies_without_a_common_token_are_refused():
    with pytest.raises(ValueError, match="share no token"):
        TLI(VocabMap(torch.tensor([-1, -1]), torch.tensor([-1, -1, -1])))
