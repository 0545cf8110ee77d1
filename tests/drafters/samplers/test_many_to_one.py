"""union and slrs: many-to-one laws that may miss; the published worked examples; the planted bug of a miss."""

from dataclasses import replace

import pytest
import torch

import drafters.engine.drafting.chain as propose
from drafters.engine.limits import Limits
from drafters.probs import residual
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import build
from drafters.samplers.draft import DrawnLaws, Sampler, Tree
from drafters.samplers.proposal.slrs import SLRS
from drafters.samplers.proposal.tli import TLI
from drafters.samplers.proposal.union import Union
from drafters.samplers.verify.block import Block
from drafters.samplers.verify.rejection import Rejection
from drafters.samplers.verify.rrs import RRS
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import VocabMap
from eval.lossless.exact.exact_law import exact_law, largest_error, reference_law, total_variation
from eval.lossless.toys.text_table_models import many_to_one_pair, short_drafter_pair, worded_pair

SEED = 58  # the miss has probability 0.6 after the prompt [1]


def row(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def acceptance(p, q):
    return float(torch.minimum(p, q).sum())


def test_union_and_tli_of_the_published_example():
    vocab = VocabMap(torch.tensor([0, 1, 2, -1]), torch.tensor([0, 1, 2, -1]))
    p, q = row(0.5, 0.3, 0.2, 0.0), row(0.3, 0.2, 0.0, 0.5)
    union, tli = Union(vocab), TLI(vocab)
    assert acceptance(p, union.lift(q)) == pytest.approx(0.5, abs=1e-12)
    masked = q * (vocab.to_target >= 0)
    assert acceptance(p, tli.lift(masked / masked.sum())) == pytest.approx(0.8, abs=1e-12)
    assert union.extend(q)[-1] == pytest.approx(0.5, abs=1e-12)


def test_slrs_of_the_published_example():
    """Drafter he, hey, x; target h, hey, x: "he" begins with the target's "h"."""
    pair = worded_pair(["h", "hey", "x", "e", "y"], ["he", "hey", "x"], 0)
    slrs = SLRS(pair.texts().first, 5)
    psi, p = slrs.lift(row(0.5, 0.2, 0.3)), row(0.1, 0.4, 0.5, 0.0, 0.0)
    torch.testing.assert_close(psi, row(0.5, 0.2, 0.3, 0.0, 0.0), rtol=0, atol=1e-6)
    assert slrs.total
    assert acceptance(p, psi) == pytest.approx(0.6, abs=1e-6)
    assert float((p * psi).sum()) == pytest.approx(0.28, abs=1e-6)  # exact match on the same drafts
    rest = residual(p, psi)
    torch.testing.assert_close(rest / rest.sum(), row(0.0, 0.5, 0.5, 0.0, 0.0), rtol=0, atol=1e-6)


def test_images_add_up_and_the_miss_is_what_is_left():
    slrs = SLRS(torch.tensor([1, 1, -1, 0, -1]), 3)
    q = torch.rand(4, 2, 5, dtype=torch.float64).softmax(-1)
    extended = slrs.extend(q)
    assert not slrs.total
    torch.testing.assert_close(extended[..., 0], q[..., 3])
    torch.testing.assert_close(extended[..., 1], q[..., 0] + q[..., 1])
    assert not extended[..., 2].any()
    torch.testing.assert_close(extended[..., 3], q[..., 2] + q[..., 4])
    torch.testing.assert_close(extended.sum(-1), torch.ones(4, 2, dtype=torch.float64))
    assert torch.equal(slrs.lift(q), extended[..., :3])


def test_union_never_accepts_more_than_tli_nor_slem_than_slrs():
    generator = torch.Generator().manual_seed(0)
    vocab = VocabMap(torch.tensor([1, 0, -1, 1, 3]), torch.tensor([1, 0, -1, 4]))
    for _ in range(300):
        p, q = (torch.randn(n, generator=generator, dtype=torch.float64).mul(2).softmax(-1) for n in (4, 5))
        masked = q * (vocab.to_target >= 0)
        union, tli = Union(vocab).lift(q), TLI(vocab).lift(masked / masked.sum())
        assert acceptance(p, union) <= acceptance(p, tli) + 1e-15
        psi = SLRS(torch.tensor([1, 0, 3, 1, 3]), 4).lift(q)
        assert float((p * psi).sum()) <= acceptance(p, psi) + 1e-15


def test_slrs_is_tli_where_every_text_is_a_target_token():
    vocab = VocabMap(torch.tensor([2, 0, 1, 2]), torch.tensor([1, 2, 0, -1]))
    q = torch.rand(7, 4, dtype=torch.float64).softmax(-1)
    assert torch.equal(SLRS(vocab.to_target, 4).lift(q), TLI(vocab).lift(q))


def test_first_tokens_of_toy_texts():
    assert many_to_one_pair(0).texts().first.tolist() == [1, 2, 2, -1, 2, 0]  # "c" has none, END goes by role
    assert short_drafter_pair(0).texts().first.tolist() == [2, 1, 3]  # "bbb" is "bb", "b"


@pytest.mark.parametrize("verifier", [Rejection(), Block()], ids=["rejection", "block"])
@pytest.mark.parametrize("proposal", ["union", "slrs"])
def test_any_chain_verifier_is_exact_with_misses(proposal, verifier):
    pair, limits = many_to_one_pair(SEED), Limits(3)
    sampler = replace(build(proposal, pair.vocab, texts=pair.texts), verifier=verifier)
    law = exact_law(sampler, lambda: Static(2), pair, [1], limits)
    assert largest_error(law, reference_law(pair, [1], limits)) <= 1e-12


@pytest.mark.parametrize("proposal", ["union", "slrs"])
def test_a_miss_resampled_from_the_targets_law_shows(proposal, monkeypatch):
    pair, limits = many_to_one_pair(SEED), Limits(2)
    sampler = build(proposal, pair.vocab, texts=pair.texts)
    clean = DrawnLaws.row

    def fresh_after_a_miss(self, node):
        missed = (node >= 0) & (self.probabilities[0] == 0) if self.probabilities else node < -1
        return clean(self, torch.where(missed, -1, node))

    monkeypatch.setattr(DrawnLaws, "row", fresh_after_a_miss)
    law = exact_law(sampler, lambda: Static(1), pair, [1], limits)
    assert total_variation(law, reference_law(pair, [1], limits)) >= 1e-3


@pytest.mark.parametrize("proposal", ["union", "slrs"])
def test_a_renormalised_draw_shows(proposal, monkeypatch):
    """Draws as if there were no miss, and reports the law with it."""
    pair, limits = many_to_one_pair(SEED), Limits(2)
    sampler = build(proposal, pair.vocab, texts=pair.texts)

    def without_miss(q, sampler, coins, key, count=1):
        lifted = sampler.proposal.lift(q)
        return lifted, sampler.verifier.draw(lifted, coins, key, count)

    monkeypatch.setattr(propose, "draw_children", without_miss)
    law = exact_law(sampler, lambda: Static(1), pair, [1], limits)
    assert total_variation(law, reference_law(pair, [1], limits)) >= 1e-3


def test_a_miss_in_production_coins_has_its_probability():
    union = Union(VocabMap(torch.tensor([0, -1, -1]), torch.tensor([0])))
    sampler = Sampler("union", union, Rejection())
    rows = 20_000
    q = row(0.25, 0.5, 0.25).expand(rows, 3)
    key = propose.Key(
        position=torch.ones(rows, dtype=torch.int64), round=torch.ones(rows, dtype=torch.int64), purpose="draft"
    )
    lifted, drawn = propose.draw_children(q, sampler, KeyedCoins(0, torch.arange(rows)), key)
    assert lifted.shape == (rows, 1)
    assert set(drawn.unique().tolist()) == {-1, 0}
    share = float((drawn == -1).double().mean())
    assert abs(share - 0.75) < 5 * (0.75 * 0.25 / rows) ** 0.5


def test_trees_are_refused_by_name():
    partial = SLRS(torch.tensor([0, -1]), 2)
    with pytest.raises(ValueError, match="'partial': a proposal that may miss needs a chain"):
        Sampler("partial", partial, Rejection(), Tree((2,)))
    with pytest.raises(ValueError, match="verifier of chains"):
        Sampler("partial", partial, RRS())


def test_nothing_in_common_is_refused():
    with pytest.raises(ValueError, match="union: no drafter token becomes a target token"):
        Union(VocabMap(torch.tensor([-1, -1]), torch.tensor([-1])))


def test_slrs_and_slem_say_what_they_miss():
    vocab = VocabMap(torch.tensor([0, -1]), torch.tensor([0, -1]))
    for name in ("slrs", "slem"):
        with pytest.raises(ValueError, match=f"'{name}' must know what the ids spell: pass texts="):
            build(name, vocab)
