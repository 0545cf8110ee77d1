"""Planted bugs of the gate's kind that need more than a subject: leaks, repeated coins, a corrupt drafter cache."""

import pytest
import torch

from drafters.engine.limits import Limits
from drafters.samplers.catalog import build
from drafters.samplers.draft import DrawnLaws, Sampler, TokenProposal
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.verify.rejection import Rejection
from drafters.stop.policies.static import Static
from eval.lossless.exact.exact_law import exact_law, reference_law, total_variation
from eval.lossless.mutants.engine import Forgetful
from eval.lossless.toys.table_models import full_pair

CLEAN, WRONG = 1e-12, 1e-3
PAIR = full_pair(3, 60, eos=(2,))
PROMPT = [0, 1]


def error(sampler=None, pair=PAIR, limits=None, length=2) -> float:
    limits = limits or Limits(3)
    sampler = sampler or build("standard", pair.vocab)
    law = exact_law(sampler, lambda: Static(length), pair, PROMPT, limits)
    return total_variation(law, reference_law(pair, PROMPT, limits))


# --- misses ---


class Leaky(TokenProposal):
    """A proposal that cannot express one token: its law has less than unit mass, the rest is a miss."""

    support, total = None, False

    def lift(self, q):
        return self.extend(q)[..., :-1]

    def extend(self, q):
        law = torch.cat([q, q[..., 1:2]], -1)
        law[..., 1] = 0.0
        return law


def test_a_miss_is_a_rejection(monkeypatch):
    sampler = Sampler("leaky", Leaky(), Rejection())
    assert error(sampler) <= CLEAN

    def fresh_after_a_miss(self, node):
        missed = (node >= 0) & (self.probabilities[0] == 0 if self.probabilities else node < -1)
        return clean(self, torch.where(missed, -1, node))

    clean = DrawnLaws.row
    monkeypatch.setattr(DrawnLaws, "row", fresh_after_a_miss)
    assert error(sampler, length=1) >= WRONG


# --- coins ---


class SameCoin(Rejection):
    """Tests every token of a round with one coin."""

    def verify(self, p, draft, coins, key):
        class Careless:
            draw = staticmethod(coins.draw)

            @staticmethod
            def accept(p_x, q_x, key):
                node = torch.zeros_like(key.node)
                position = torch.where(key.position >= 0, key.position[:, :1], -1)
                return coins.accept(p_x, q_x, key.at(node=node, position=position))

        return super().verify(p, draft, Careless(), key)


class RoundForgotten(Rejection):
    """Names its decisions by round and node alone, and says always the same round."""

    def verify(self, p, draft, coins, key):
        class Careless:
            draw = staticmethod(coins.draw)

            @staticmethod
            def accept(p_x, q_x, key):
                position = torch.where(key.position >= 0, torch.arange(key.position.shape[1]), -1)
                return coins.accept(p_x, q_x, key.at(round=torch.zeros_like(key.round), position=position))

        return super().verify(p, draft, Careless(), key)


@pytest.mark.parametrize("verifier", [SameCoin, RoundForgotten])
def test_a_coin_used_twice_is_refused(verifier):
    with pytest.raises(RuntimeError, match="coin used twice: accept"):
        error(Sampler("mutant", Identity(), verifier()))


def test_a_corrupt_drafter_cache_costs_acceptance_and_never_correctness():
    class Corrupt(type(PAIR)):
        def open_drafter(self, rows, capacity):
            return Forgetful(self.drafter, rows, 8 * capacity)

    pair = Corrupt(PAIR.target, PAIR.drafter, PAIR.vocab, PAIR.eos)
    assert error(pair=pair) <= CLEAN
