"""Planted bugs of the multi-draft verifiers. Each is killed by every test that can see it: exact law, chi-square of production
samples, gap to the optimum, refusal of a repeated coin."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

import drafters.samplers.verify.block as block
import drafters.samplers.walk as walk
from drafters.coins import KeyedCoins
from drafters.engine.decode import speculative
from drafters.engine.limits import Limits
from drafters.probs import Sampling
from drafters.samplers.draft import ABSENT, MISS, Chain, Sampler, Tree
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.siblings import OneDrawnThenTop, WithoutReplacement, WithReplacement
from drafters.samplers.verify.block import Block, prefix_chances
from drafters.samplers.verify.greedy import Greedy
from drafters.samplers.verify.kseq import KSeq
from drafters.samplers.verify.rrs import RRS
from drafters.samplers.verify.traversal import Traversal
from drafters.stop.static import Static
from drafters.vocab.alignment import identity
from eval.chi_square import ALPHA, detectable, p_value
from eval.law import exact_law, reference_law, total_variation
from eval.one_round import play, random_laws
from eval.tables import Table, TablePair, full_pair

CLEAN, WRONG = 1e-12, 1e-3
V, PROMPT, TRIPLE = 4, [0, 1, 2], 3
SAMPLING = Sampling(0.9)


# --- what is measured ---


def pair_of(size: int, seed: int) -> TablePair:
    """Laws that forget what was before a block of three tokens, so that one request holds many independent triples."""
    target, noise = Table.random(size, seed), Table.random(size, seed + 1, scale=1.0)
    return TablePair(Table(target.logits, TRIPLE), Table(target.logits + noise.logits, TRIPLE), identity(size))


SMALL, SAMPLED = full_pair(3, 20), pair_of(V, 80)
DEPTH, SAMPLES = 2, 250_000
GENERATOR = torch.Generator().manual_seed(7)
# After a first rejection the second sibling's test is still open, so that one coin for both shows.
LEFT_OVER = [torch.tensor(law).double().expand(21, V) for law in ((0.2, 0.38, 0.42, 0.0), (0.4, 0.35, 0.25, 0.0))]
P, Q = random_laws(V, DEPTH, GENERATOR), random_laws(V, DEPTH, GENERATOR)


def law_error(verifier, shape) -> float:
    """Total variation of the production engine's exact law from the target's."""
    limits = Limits(4, Sampling(1.0)) if shape == Chain() else Limits(3, Sampling(1.0))
    sampler = Sampler("mutant", Identity(), verifier, shape)
    law = exact_law(sampler, lambda: Static(2), SMALL, PROMPT, limits)
    return total_variation(law, reference_law(SMALL, PROMPT, limits))


def sampled_p_value(verifier, shape, p=P, q=Q) -> float:
    """Of the joint law of a round's first three tokens, what it does not emit drawn from the target, with production coins."""
    branching = (1, 1) if shape == Chain() else shape.branching
    _, tokens = play(verifier, branching, p, q, KeyedCoins(0, torch.arange(SAMPLES)), SAMPLES)
    context = torch.zeros(SAMPLES, dtype=torch.int64)
    generator = torch.Generator().manual_seed(1)
    law = p.new_ones(1, 1)
    for depth in range(DEPTH + 1):
        fresh = p[context].multinomial(1, generator=generator).squeeze(1)
        tokens[:, depth] = torch.where(tokens[:, depth] >= 0, tokens[:, depth], fresh)
        level = p[(V**depth - 1) // (V - 1) :][: V**depth]  # laws after all paths of this length
        law = law.reshape(-1, 1) * level
        if depth < DEPTH:
            context = context * V + tokens[:, depth] + 1
    counts = np.bincount((tokens @ torch.tensor([V * V, V, 1])).numpy(), minlength=V**3)
    assert detectable(SAMPLES, V**3) < 0.014
    return p_value(counts, law.flatten().numpy())


def p_value_across_rounds(verifier, shape, triples=24, batch=1024) -> float:
    """Of the joint law of three consecutive tokens of the production engine, most of them spread over several rounds."""
    limits = Limits(TRIPLE * triples, SAMPLING)
    coins = KeyedCoins(0, torch.arange(batch))
    prompts = [torch.tensor(PROMPT)] * batch
    out = speculative(SAMPLED, Sampler("mutant", Identity(), verifier, shape), Static(3), prompts, coins, limits)
    tokens = torch.stack(out.tokens).reshape(-1, TRIPLE).numpy()
    counts = np.bincount(tokens @ np.array([V * V, V, 1]), minlength=V**3)
    law = np.zeros(V**3)
    for new, weight in reference_law(SAMPLED, PROMPT, Limits(TRIPLE, SAMPLING)).items():
        law[np.dot(new, [V * V, V, 1])] = weight
    assert detectable(int(counts.sum()), V**3) < 0.045
    return p_value(counts, law)


# --- the mutants ---


class Careless:
    """Coins whose keys are changed on the way."""

    def __init__(self, coins, accept: Callable):
        self.coins, self.change = coins, accept

    def draw(self, law, key):
        return self.coins.draw(law, key)

    def accept(self, p_x, q_x, key):
        return self.coins.accept(p_x, q_x, self.change(key))


class SkipsDuplicates(RRS):
    """A repeated sibling is not tested again, and takes nothing from the residual."""

    def verify(self, p, draft, coins, key):
        tokens, parent = draft.tokens.clone(), draft.parent.clone()
        for node in range(tokens.shape[1]):
            same = (parent[:, :node] == parent[:, [node]]) & (tokens[:, :node] == tokens[:, [node]])
            repeated = same.any(1)
            tokens[repeated, node], parent[repeated, node] = MISS, ABSENT
        return super().verify(p, replace(draft, tokens=tokens, parent=parent), coins, key)


class NotRenormalised(WithoutReplacement):
    """Tests later siblings against q without the earlier ones, as if it still summed to one."""

    def laws(self, q, tokens):
        left = q.clone()
        for token in tokens.unbind(1):
            yield left.clone()
            left.scatter_(1, token.clamp(min=0).unsqueeze(1), 0.0)


class Sorted(WithoutReplacement):
    """Reorders the drawn siblings, the likeliest first."""

    def draw(self, q, coins, key, count):
        drawn = super().draw(q, coins, key, count)
        order = torch.where(drawn >= 0, q.gather(1, drawn.clamp(min=0)), -1.0).argsort(
            dim=1, descending=True, stable=True
        )
        return drawn.gather(1, order)


class FirstFailure(Block):
    """Tests prefixes from the left and stops at the first failure."""

    def verify(self, p, draft, coins, key):
        _, chances = prefix_chances(p, draft, draft.present.sum(-1))
        going, accepted = key.position >= 0, torch.zeros_like(key.position)
        for tau in range(1, chances.shape[1]):
            there = going & draft.present[:, tau - 1]
            name = key.at(position=torch.where(there, key.position + tau - 1, -1), node=tau - 1, purpose="accept")
            going = coins.accept(chances[:, tau], torch.ones_like(chances[:, tau]), name) & there
            accepted = accepted + going

        class Decided:
            draw = staticmethod(coins.draw)

            @staticmethod
            def accept(p_x, q_x, key):
                return (accepted == key.node + 1) & (key.position >= 0)

        return super().verify(p, draft, Decided(), key)


def wrong_row(base):
    """The token after a wholly accepted path comes from the root's law."""

    class WrongRow(base):
        def verify(self, p, draft, coins, key):
            leaf = ~(draft.parent.unsqueeze(1) == torch.arange(draft.tokens.shape[1]).view(1, -1, 1)).any(-1)  # (B, M)
            p = p.clone()
            p[:, 1:] = torch.where(leaf.unsqueeze(-1), p[:, :1], p[:, 1:])
            return super().verify(p, draft, coins, key)

    return WrongRow()


def careless(verifier, change):
    """`verifier` with changed keys of its tests."""

    class Mutant(type(verifier)):
        def verify(self, p, draft, coins, key):
            return super().verify(p, draft, Careless(coins, change), key)

    return Mutant(**vars(verifier)) if vars(verifier) else Mutant()


def one_coin_for_siblings(key):
    return key.at(node=0)


def position_only(key):
    return key.at(round=None)


class TopAsDrawn(OneDrawnThenTop):
    """Takes the certain children for drawn ones."""

    def laws(self, q, tokens):
        return WithReplacement().laws(q, tokens)


@dataclass(frozen=True)
class Mutant:
    make: Callable
    clean: object
    shape: Tree | Chain = field(default_factory=lambda: Tree((2, 1)))


LOSSY = {
    "duplicates skipped": Mutant(SkipsDuplicates, RRS(), Tree((2, 1))),
    "law not renormalised": Mutant(lambda: RRS(NotRenormalised()), RRS(WithoutReplacement())),
    "siblings sorted": Mutant(lambda: RRS(Sorted()), RRS(WithoutReplacement())),
    "siblings sorted, traversal": Mutant(lambda: Traversal(Sorted()), Traversal(WithoutReplacement())),
    "block as first failure": Mutant(FirstFailure, Block(), Chain()),
    "bonus from the wrong row": Mutant(lambda: wrong_row(RRS), RRS()),
    "bonus from the wrong row, traversal": Mutant(lambda: wrong_row(Traversal), Traversal()),
    "bonus from the wrong row, block": Mutant(lambda: wrong_row(Block), Block(), Chain()),
    "certain children tested as drawn": Mutant(lambda: Greedy(TopAsDrawn()), Greedy()),
}
PATCHED = {
    "residual from p": (walk, "residual", lambda rest, law: rest.clone(), RRS(), Tree((2, 1))),
    "residual not clamped": (walk, "residual", lambda rest, law: (rest - law).abs(), RRS(), Tree((2, 1))),
    "residual from p, greedy": (walk, "residual", lambda rest, law: rest.clone(), Greedy(), Tree((2, 1))),
}
SHARED = {
    "one coin for siblings": (RRS(), Tree((2, 1)), one_coin_for_siblings, "coin used twice"),
    "one coin for siblings, kseq": (KSeq(), Tree((2, 1)), one_coin_for_siblings, "coin used twice"),
    "one coin for siblings, traversal": (Traversal(), Tree((2, 1)), one_coin_for_siblings, "coin used twice"),
}
REUSED = {
    "position-only keys, block": (Block(), Chain(), position_only, "another law"),
    "position-only keys, traversal": (Traversal(), Tree((2, 1)), position_only, "another law"),
}


@pytest.mark.parametrize("name", LOSSY)
def test_exact_law(name):
    mutant = LOSSY[name]
    assert law_error(mutant.clean, mutant.shape) <= CLEAN
    assert law_error(mutant.make(), mutant.shape) >= WRONG


@pytest.mark.parametrize("name", LOSSY)
def test_chi_square(name):
    mutant = LOSSY[name]
    assert sampled_p_value(mutant.clean, mutant.shape) >= ALPHA
    assert sampled_p_value(mutant.make(), mutant.shape) < ALPHA


@pytest.mark.parametrize("name", PATCHED)
def test_wrong_residuals(name, monkeypatch):
    module, function, wrong, verifier, shape = PATCHED[name]
    assert law_error(verifier, shape) <= CLEAN
    assert sampled_p_value(verifier, shape) >= ALPHA
    monkeypatch.setattr(module, function, wrong)
    assert law_error(verifier, shape) >= WRONG
    assert sampled_p_value(verifier, shape) < ALPHA


def test_block_with_the_residual_of_single_tokens(monkeypatch):
    assert sampled_p_value(Block(), Chain()) >= ALPHA

    def uncapped(p, draft, count):
        weights, chances = prefix_chances(p, draft, count)
        return torch.ones_like(weights), chances

    monkeypatch.setattr(block, "prefix_chances", uncapped)
    assert law_error(Block(), Chain()) >= WRONG
    assert sampled_p_value(Block(), Chain()) < ALPHA


@pytest.mark.parametrize("name", SHARED)
def test_coins_shared_by_siblings(name):
    verifier, shape, change, message = SHARED[name]
    with pytest.raises(RuntimeError, match=message):
        law_error(careless(verifier, change), shape)
    assert sampled_p_value(verifier, shape, *LEFT_OVER) >= ALPHA
    assert sampled_p_value(careless(verifier, change), shape, *LEFT_OVER) < ALPHA


@pytest.mark.parametrize("name", REUSED)
def test_coins_reused_by_the_next_round(name):
    verifier, shape, change, message = REUSED[name]
    with pytest.raises(RuntimeError, match=message):
        law_error(careless(verifier, change), shape)
    assert p_value_across_rounds(verifier, shape) >= ALPHA
    assert p_value_across_rounds(careless(verifier, change), shape) < ALPHA
