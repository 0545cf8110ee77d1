"""The samples' tests: what they are tests of, and what each of them catches."""

import numpy as np
import pytest
import torch

from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import CATALOG, build
from eval.lossless.mutants.engine import ForgetsRequest, ForgetsRound
from eval.lossless.sampled import BIAS, BLOCK, TRIPLES, draw, joint_law, subject
from eval.lossless.sampled import tests as p_values
from eval.lossless.toys.toy_pairs import blocks
from eval.stats.chi_square import ALPHA, detectable, samples_needed

CHOSEN = blocks([0, 1, 2, 3], 70, noise=1.0)
STANDARD = build("standard", CHOSEN.pair.vocab)


class ForgetsPurpose(KeyedCoins):
    """Draft, test and residual share a coin."""

    def uniform(self, key):
        return super().uniform(key.at(purpose="draft"))


def test_the_joint_law_is_the_product_of_the_targets():
    law = joint_law(CHOSEN)
    assert law.shape == (4,) * BLOCK
    assert law.sum() == pytest.approx(1.0, abs=1e-12)


def test_the_power_is_the_one_promised():
    assert detectable(samples_needed(64, BIAS), 64) <= BIAS


def test_plain_samples_pass_and_span_rounds():
    sequences = draw(CHOSEN, STANDARD, 1, rows=264)
    assert sequences.shape == (264, TRIPLES, BLOCK)
    assert min(p_values(sequences, joint_law(CHOSEN)).values()) >= ALPHA


@pytest.mark.parametrize("coins", [ForgetsPurpose, ForgetsRound, ForgetsRequest])
def test_coins_that_are_not_independent_are_found(coins):
    sequences = draw(CHOSEN, STANDARD, 1, coins=coins, rows=264)
    assert min(p_values(sequences, joint_law(CHOSEN)).values()) < ALPHA


@pytest.mark.parametrize("lag", [1, 2, 3])
def test_tokens_tied_across_the_border_show_in_their_pair_alone(lag):
    """The first token of every second triple copied from a token of the one before it, which has its law."""
    generator = np.random.default_rng(0)
    law = np.full((4, 4, 4), 1 / 64)
    sequences = torch.tensor(generator.integers(0, 4, (2000, TRIPLES, BLOCK)))
    sequences[:, 1::2, 0] = sequences[:, 0::2, BLOCK - lag]
    found = p_values(sequences, law)
    assert {name for name, p in found.items() if p < ALPHA} == {f"lag {lag}"}


@pytest.mark.parametrize("name", CATALOG)
def test_every_sampler_has_a_subject(name):
    chosen, sampler = subject(name)
    assert sampler.verifier is not None
    assert chosen.vocabulary == 4
