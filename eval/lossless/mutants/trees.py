"""Bugs of multi-draft verification: siblings, residuals along a path, coins of nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from drafters.rng.coins import Coins, Key
from drafters.samplers.draft import ABSENT, MISS, Chain, Draft, Sampler, Tree, Verdict
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.tree import walk
from drafters.samplers.tree.siblings import OneDrawnThenTop, WithoutReplacement, WithReplacement
from drafters.samplers.verify.block import Block
from drafters.samplers.verify.greedy import Greedy
from drafters.samplers.verify.kseq import KSeq
from drafters.samplers.verify.rrs import RRS
from drafters.samplers.verify.traversal import Traversal
from eval.lossless.exact.one_round import random_laws
from eval.lossless.mutants.subject import EXACT, GAP, SAMPLED, Mutant, Subject, patched, verifier
from eval.lossless.toys.table_models import full_pair
from eval.lossless.toys.toy_pairs import blocks

V, DEPTH = 4, 2


class SkipsDuplicates(RRS):
    """A repeated sibling is not tested again, and takes nothing from the residual."""

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """Verify with repeated siblings turned into absent nodes."""
        tokens, parent = draft.tokens.clone(), draft.parent.clone()
        for node in range(tokens.shape[1]):
            same = (parent[:, :node] == parent[:, [node]]) & (tokens[:, :node] == tokens[:, [node]])
            repeated = same.any(1)
            tokens[repeated, node], parent[repeated, node] = MISS, ABSENT
        return super().verify(p, replace(draft, tokens=tokens, parent=parent), coins, key)


class NotRenormalised(WithoutReplacement):
    """Tests later siblings against q without the earlier ones, as if it still summed to one."""

    def laws(self, q: Tensor, tokens: Tensor) -> Iterator[Tensor]:
        """q without the earlier children, not renormalised; see `Siblings.laws` for shapes."""
        left = q.clone()
        for token in tokens.unbind(1):
            yield left.clone()
            left.scatter_(1, token.clamp(min=0).unsqueeze(1), 0.0)


class Sorted(WithoutReplacement):
    """Reorders the drawn siblings, the likeliest first."""

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int) -> Tensor:
        """Draw the children, then sort them by q, the likeliest first."""
        drawn = super().draw(q, coins, key, count)
        mass = torch.where(drawn >= 0, q.gather(1, drawn.clamp(min=0)), -1.0)
        return drawn.gather(1, mass.argsort(dim=1, descending=True, stable=True))


class TopAsDrawn(OneDrawnThenTop):
    """Takes the certain children for drawn ones."""

    def laws(self, q: Tensor, tokens: Tensor) -> Iterator[Tensor]:
        """q for every child, the certain ones included; see `Siblings.laws` for shapes."""
        return WithReplacement().laws(q, tokens)


class TopFirst(OneDrawnThenTop):
    """Tests the certain children before the drawn one: lossless, but below the optimum."""

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int) -> Tensor:
        """Draw the children, the certain ones first and the drawn one last."""
        return super().draw(q, coins, key, count).roll(-1, 1)

    def laws(self, q: Tensor, tokens: Tensor) -> Iterator[Tensor]:
        """The distributions in the order of this class's `draw`: the drawn child's last."""
        first, *certain = super().laws(q, tokens.roll(1, 1))
        yield from certain
        yield first


class _RenamedCoins:
    """Coins whose tests have other keys."""

    def __init__(self, coins: Coins, change: Callable[[Key], Key]):
        self.coins, self.change = coins, change

    def draw(self, law: Tensor, key: Key) -> Tensor:
        return self.coins.draw(law, key)

    def accept(self, p_x: Tensor, q_x: Tensor, key: Key) -> Tensor:
        return self.coins.accept(p_x, q_x, self.change(key))


def careless(base: Any, change: Callable[[Key], Key]) -> Callable[[], Any]:
    """Makes `base` with changed keys of its tests."""

    class Mutated(type(base)):  # type: ignore[misc]
        def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
            return super().verify(p, draft, _RenamedCoins(coins, change), key)

    return lambda: Mutated(**vars(base)) if vars(base) else Mutated()


def wrong_row(base: Any) -> Callable[[], Any]:
    """Makes `base` with the token after a wholly accepted path drawn from the root's distribution."""

    class WrongRow(base):
        def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
            leaf = ~(draft.parent.unsqueeze(1) == torch.arange(draft.tokens.shape[1]).view(1, -1, 1)).any(-1)  # (B, M)
            p = p.clone()
            p[:, 1:] = torch.where(leaf.unsqueeze(-1), p[:, :1], p[:, 1:])
            return super().verify(p, draft, coins, key)

    return WrongRow


def on_tree(verifier: Any, left_over: bool = False) -> Callable[[], Subject]:
    """A subject with this verifier on the tree (2, 1), or a chain for block.

    Its rounds are sampled one by one: a round is where these verifiers can go wrong, and a quarter of a million of
    them are cheap. With `left_over` the second sibling's test is still open after a first rejection, so that a coin
    shared by siblings shows.
    """

    def make() -> Subject:
        generator = torch.Generator().manual_seed(7)
        laws = random_laws(V, DEPTH, generator), random_laws(V, DEPTH, generator)
        if left_over:
            p, q = (torch.tensor(law).double() for law in ((0.2, 0.38, 0.42, 0.0), (0.4, 0.35, 0.25, 0.0)))
            laws = p.expand(21, V), q.expand(21, V)
        chain = isinstance(verifier, Block)
        sampler = Sampler("subject", Identity(), verifier, Chain() if chain else Tree((2, 1)))
        return Subject(sampler, pair=full_pair(3, 20), prompt=(0, 1, 2), new=4 if chain else 3, round_laws=laws)

    return make


def across_rounds(verifier: Any) -> Callable[[], Subject]:
    """The same, but sampled over whole requests: coins of one round and the next are tied."""
    return lambda: replace(on_tree(verifier)(), round_laws=None, blocks=blocks([0, 1, 2, 3], 80, noise=1.0), depth=3)


def one_coin_for_siblings(key: Key) -> Key:
    """The key without its node, so that all siblings share one coin."""
    return key.at(node=0)


def position_only(key: Key) -> Key:
    """The key without its round, so that a position has one coin for all rounds."""
    return key.at(round=None)


BOTH = (EXACT, SAMPLED)
MUTANTS = [
    Mutant("T5", "repeated siblings skipped (rrs)", on_tree(RRS()), verifier(SkipsDuplicates), BOTH),
    Mutant(
        "T5", "q not renormalised (rrs_wor)", on_tree(RRS(WithoutReplacement())),
        verifier(lambda: RRS(NotRenormalised())), BOTH,
    ),
    Mutant("T5", "siblings sorted (rrs_wor)", on_tree(RRS(WithoutReplacement())), verifier(lambda: RRS(Sorted())), BOTH),
    Mutant(
        "T5", "siblings sorted (traversal)", on_tree(Traversal(WithoutReplacement())),
        verifier(lambda: Traversal(Sorted())), BOTH,
    ),
    Mutant(
        "T5", "certain children first (greedy)", on_tree(Greedy()), verifier(lambda: Greedy(TopFirst())), (GAP,),
        "lossless, only worse",
    ),
    Mutant("T5", "residual from p (rrs)", on_tree(RRS()), patched(walk, "residual", lambda clean: lambda r, law: r.clone()), BOTH),
    Mutant(
        "T5", "residual from p (greedy)", on_tree(Greedy()),
        patched(walk, "residual", lambda clean: lambda r, law: r.clone()), BOTH,
    ),
    Mutant(
        "own", "residual not clamped (rrs)", on_tree(RRS()),
        patched(walk, "residual", lambda clean: lambda r, law: (r - law).abs()), BOTH,
    ),
    Mutant("own", "certain children as drawn (greedy)", on_tree(Greedy()), verifier(lambda: Greedy(TopAsDrawn())), BOTH),
    Mutant("M14", "bonus from the wrong row (rrs)", on_tree(RRS()), verifier(wrong_row(RRS)), BOTH),
    Mutant("M14", "bonus from the wrong row (traversal)", on_tree(Traversal()), verifier(wrong_row(Traversal)), BOTH),
    Mutant("M14", "bonus from the wrong row (block)", on_tree(Block()), verifier(wrong_row(Block)), BOTH),
    Mutant("own", "one coin for siblings (rrs)", on_tree(RRS(), True), verifier(careless(RRS(), one_coin_for_siblings)), BOTH),
    Mutant("own", "one coin for siblings (kseq)", on_tree(KSeq(), True), verifier(careless(KSeq(), one_coin_for_siblings)), BOTH),
    Mutant(
        "own", "one coin for siblings (traversal)", on_tree(Traversal(), True),
        verifier(careless(Traversal(), one_coin_for_siblings)), BOTH,
    ),
    Mutant("own", "position-only keys in block", across_rounds(Block()), verifier(careless(Block(), position_only)), BOTH),
    Mutant(
        "own", "position-only keys in traversal", across_rounds(Traversal()),
        verifier(careless(Traversal(), position_only)), BOTH,
    ),
]  # fmt: skip
