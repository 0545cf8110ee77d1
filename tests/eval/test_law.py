"""The production engine's exact output law is the target's own, for every sampler, policy and warp; no sampling, no noise."""

import math
from dataclasses import replace

import pytest
import torch

from drafters.engine.limits import Limits
from drafters.probs import Sampling, warp
from drafters.samplers.catalog import CATALOG, build
from drafters.samplers.draft import StringProposal, Tree
from drafters.stop.static import Static
from eval.law import exact_law, largest_error, reference_law, total_variation
from eval.tables import foreign_pair, full_pair, pruned_pair
from eval.worded_tables import many_to_one_pair, short_drafter_pair

TOLERANCE = 1e-12
PAIRS = {
    "full": full_pair(3, 0, eos=(2,)),
    "pruned": pruned_pair(3, [0, 2], 10, eos=(1,)),
    "foreign": foreign_pair(20, eos=(0,)),
    "many-to-one": many_to_one_pair(30),
    "short": short_drafter_pair(40),
}
PROMPTS = {
    "full": [0],
    "pruned": [0, 1, 0],
    "foreign": [2, 0, 3],
    "many-to-one": [1, 3],
    "short": [2, 1],
}  # the foreign one ends with a token that cannot be spelled
NEW = {"full": 4, "pruned": 4, "foreign": 3, "many-to-one": 3, "short": 3}
WARPS = {
    "cold": Limits(1, Sampling(0.7)),
    "greedy": Limits(1, Sampling(0.0)),
    "top-k": Limits(1, Sampling(1.0, top_k=2)),
    "top-p": Limits(1, Sampling(1.0, top_p=0.8)),
    "all": Limits(1, Sampling(0.7, top_k=2, top_p=0.9)),
    "other-q": Limits(1, Sampling(1.0), draft_sampling=Sampling(2.0, top_k=2)),
    "greedy-q": Limits(1, Sampling(1.0), draft_sampling=Sampling(0.0)),
    "greedy-p": Limits(1, Sampling(0.0), draft_sampling=Sampling(1.0)),
}


class Wavering:
    """Longer after a round that was accepted whole, shorter after another; shorter still where the prefix is odd."""

    max_length = 3

    def __init__(self):
        self.length = self.emitted = torch.zeros(0, dtype=torch.int64)

    def reset(self, rows):
        self.length = torch.ones(len(rows), dtype=torch.int64)
        self.emitted = torch.zeros(len(rows), dtype=torch.int64)

    def should_continue(self, features, drafted):
        return drafted < self.length - self.emitted % 2

    def on_verified(self, accepted, drafted, rows):
        step = torch.where(accepted == drafted, 2, -1)
        self.length[rows] = (self.length[rows] + step).clamp(0, 3)
        self.emitted[rows] += accepted + 1


def limits_of(limits: Limits, pair: str) -> Limits:
    return Limits(NEW[pair], limits.sampling, limits.draft_sampling)


def takes(name, pair) -> bool:
    """Coupled samplers have no finite set of outcomes: they are proved path by path. Trees never see the texts."""
    try:
        sampler = build(name, PAIRS[pair].vocab, texts=PAIRS[pair].texts)
    except ValueError:
        return False
    return not sampler.verifier.coupled and not (PAIRS[pair].texts and isinstance(sampler.shape, Tree))


COMBINATIONS = [(name, pair) for name in CATALOG for pair in PAIRS if takes(name, pair)]


def small(sampler):
    """A tree of two levels in place of the catalog's: every branch of its draws is run."""
    return replace(sampler, shape=Tree((1, 2))) if isinstance(sampler.shape, Tree) else sampler


def check(name, pair, stop, limits):
    tables = PAIRS[pair]
    sampler = small(build(name, tables.vocab, texts=tables.texts))
    if isinstance(sampler.proposal, StringProposal) and limits.draft_sampling is None:
        limits = replace(limits, draft_sampling=replace(limits.sampling, top_k=2))  # D branches a draw are too many
    if isinstance(sampler.shape, Tree):
        limits = replace(limits, max_new_tokens=3)
    law = exact_law(sampler, stop, tables, PROMPTS[pair], limits)
    reference = reference_law(tables, PROMPTS[pair], limits)
    assert math.fsum(law.values()) == pytest.approx(1.0, abs=TOLERANCE)
    assert largest_error(law, reference) <= TOLERANCE
    return law


def test_every_kind_of_pair_is_covered():
    covered = set(COMBINATIONS)
    assert {("standard", "full"), ("tli", "pruned"), ("tli", "foreign"), ("exact_match", "foreign")} <= covered
    assert {name for name, _ in covered} == set(CATALOG) - {"race", "race_tree"}


@pytest.mark.parametrize("length", [0, 1, 2, 3])
@pytest.mark.parametrize(("name", "pair"), COMBINATIONS)
def test_draft_lengths(name, pair, length):
    law = check(name, pair, lambda: Static(length), limits_of(Limits(1), pair))
    eos = PAIRS[pair].eos[0]
    assert any(tokens[-1] == eos and len(tokens) < NEW[pair] for tokens in law)  # EOS inside a draft really occurs
    assert all(eos not in tokens[:-1] for tokens in law)


@pytest.mark.parametrize("warped", WARPS)
@pytest.mark.parametrize(("name", "pair"), COMBINATIONS)
def test_warps(name, pair, warped):
    check(name, pair, lambda: Static(2), limits_of(WARPS[warped], pair))


@pytest.mark.parametrize(("name", "pair"), COMBINATIONS)
def test_lengths_that_depend_on_what_happened(name, pair):
    check(name, pair, Wavering, limits_of(Limits(1), pair))


@pytest.mark.parametrize("name", ["standard", "tli"])
def test_five_tokens_across_three_rounds(name):
    tables = full_pair(3, 30, eos=(2,))
    limits = Limits(5)
    law = exact_law(build(name, tables.vocab), lambda: Static(1), tables, [1], limits)
    assert largest_error(law, reference_law(tables, [1], limits)) <= TOLERANCE


def test_ignored_eos():
    tables = full_pair(3, 0)  # reference: no EOS at all
    limits = Limits(3, ignore_eos=True)
    law = exact_law(build("standard", tables.vocab), lambda: Static(2), PAIRS["full"], [0], limits)
    # Nothing is drafted behind an EOS, ignored or not; what follows it is decoded all the same.
    assert largest_error(law, reference_law(tables, [0], limits)) <= TOLERANCE


def test_stop_strings_cut_the_law_of_plain_decoding():
    tables = full_pair(3, 40)
    limits = Limits(3, stop_strings=("01",), text=lambda ids: "".join(map(str, ids)))
    law = exact_law(build("standard", tables.vocab), lambda: Static(2), tables, [0], limits)
    expected: dict[tuple[int, ...], float] = {}
    for tokens, weight in reference_law(tables, [0], Limits(3)).items():
        cut = tokens[:2] if tokens[:2] == (0, 1) else tokens
        expected[cut] = expected.get(cut, 0.0) + weight
    assert largest_error(law, expected) <= TOLERANCE


def test_small_batches_give_the_same_law():
    tables, limits = PAIRS["full"], Limits(3)
    sampler = build("standard", tables.vocab)
    whole = exact_law(sampler, lambda: Static(2), tables, [0], limits)
    assert largest_error(whole, exact_law(sampler, lambda: Static(2), tables, [0], limits, rows=7)) <= 1e-15


def test_reference_law_is_the_chain_rule():
    tables, limits = full_pair(3, 50, eos=(2,)), Limits(2, Sampling(0.7))
    law = reference_law(tables, [1], limits)
    first = warp(tables.target.after([1]), limits.sampling)
    second = warp(tables.target.after([1, 0]), limits.sampling)
    assert law[(0, 1)] == pytest.approx(float(first[0] * second[1]), rel=1e-15)
    assert law[(2,)] == pytest.approx(float(first[2]), rel=1e-15)
    assert len(law) == 7


def test_distances():
    one, other = {(0,): 0.5, (1,): 0.5}, {(0,): 0.25, (2,): 0.75}
    assert total_variation(one, other) == 0.75
    assert largest_error(one, other) == 0.75
