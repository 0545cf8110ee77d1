"""The exact law of every verifier on chains and trees: production engine, laws that depend on the whole prefix, all branches taken."""

from dataclasses import replace

import pytest
import torch

from drafters.engine.limits import Limits
from drafters.probs import Sampling
from drafters.samplers.draft import Chain, Sampler, Tree
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.proposal.tli import TLI
from drafters.samplers.tree.siblings import WithoutReplacement, WithReplacement
from drafters.samplers.verify.block import Block
from drafters.samplers.verify.greedy import Greedy
from drafters.samplers.verify.kseq import KSeq
from drafters.samplers.verify.rrs import RRS
from drafters.samplers.verify.traversal import Traversal
from drafters.stop.policies.static import Static
from drafters.stop.policy import StopPolicy
from eval.lossless.exact.exact_law import exact_law, largest_error, reference_law
from eval.lossless.toys.table_models import Table, full_pair, pruned_pair

TOLERANCE = 1e-12
TREES = {
    "rrs": RRS(),
    "rrs_wor": RRS(WithoutReplacement()),
    "kseq": KSeq(),
    "greedy": Greedy(),
    "traversal": Traversal(),
    "traversal-with": Traversal(WithReplacement()),
    "traversal-without": Traversal(WithoutReplacement()),
}
WIDE, NARROW = Sampling(0.7), Sampling(1.2, top_k=2)
SHAPES = [  # branching, new tokens, law: as large as can be enumerated in about a second
    ((1,), 4, WIDE),
    ((1, 1), 4, NARROW),
    ((1, 1, 1), 4, NARROW),
    ((2,), 3, WIDE),
    ((2,), 5, NARROW),
    ((3,), 3, WIDE),
    ((3,), 4, NARROW),
    ((2, 1), 3, WIDE),
    ((2, 1), 4, NARROW),
    ((1, 2), 3, WIDE),
    ((2, 2), 3, NARROW),
    (((2,), (0, 2)), 3, NARROW),  # nodes that differ in children
]
WARPS = {
    "top-p": Limits(3, Sampling(0.7, top_p=0.8)),
    "all": Limits(3, Sampling(0.7, top_k=2, top_p=0.9)),
    "other-q": Limits(3, Sampling(1.0), draft_sampling=Sampling(2.0, top_k=2)),
    "one-hot-q": Limits(3, Sampling(1.0), draft_sampling=Sampling(0.0)),
    "one-hot-p": Limits(3, Sampling(0.0), draft_sampling=Sampling(1.0)),
    "greedy": Limits(3, Sampling(0.0)),
}
FULL, PRUNED = full_pair(3, 0, eos=(2,)), pruned_pair(4, [0, 1, 3], 10, eos=(1,))


def with_zeros(table: Table, seed: int) -> Table:
    """The table with a third of its tokens impossible, never a whole row."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.rand(table.logits.shape, generator=generator) < 1 / 3
    hidden.scatter_(-1, table.logits.argmax(-1, keepdim=True), False)
    return replace(table, logits=table.logits.masked_fill(hidden, -torch.inf))


ZEROS = replace(FULL, target=with_zeros(FULL.target, 1), drafter=with_zeros(FULL.drafter, 2))
EQUAL = replace(FULL, drafter=FULL.target)


class SometimesShort(StopPolicy):
    """Stops a round early, or drafts nothing, by what the rounds before accepted."""

    max_length = 2

    def __init__(self):
        self.length = torch.zeros(0, dtype=torch.int64)

    def reset(self, rows):
        self.length = torch.full((len(rows),), 2)

    def should_continue(self, features, drafted):
        return drafted < self.length

    def on_verified(self, accepted, drafted, rows):
        self.length[rows] = torch.where(accepted == drafted, self.length[rows] - 1, 2).clamp(min=0)


def check(verifier, shape, pair=FULL, limits=None, stop=lambda: Static(3), prompt=(0, 1)):
    limits = limits or Limits(3, WIDE)
    sampler = Sampler("cell", Identity() if pair is not PRUNED else TLI(pair.vocab), verifier, shape)
    law = exact_law(sampler, stop, pair, list(prompt), limits)
    assert sum(law.values()) == pytest.approx(1.0, abs=TOLERANCE)
    assert largest_error(law, reference_law(pair, list(prompt), limits)) <= TOLERANCE
    return law


@pytest.mark.parametrize(("branching", "new", "sampling"), SHAPES)
@pytest.mark.parametrize("name", TREES)
def test_shapes(name, branching, new, sampling):
    law = check(TREES[name], Tree(branching), limits=Limits(new, sampling))
    assert any(tokens[-1] == 2 and len(tokens) < new for tokens in law)  # EOS inside a tree
    assert any(len(tokens) == new for tokens in law)  # and rounds after it was not drawn


@pytest.mark.parametrize("warp", WARPS)
@pytest.mark.parametrize("name", TREES)
def test_warps(name, warp):
    check(TREES[name], Tree((2, 1)), limits=WARPS[warp])


@pytest.mark.parametrize("pair", [PRUNED, ZEROS, EQUAL], ids=["pruned", "zeros", "p=q"])
@pytest.mark.parametrize("name", TREES)
def test_pairs(name, pair):
    sampling = Sampling() if pair is ZEROS else NARROW
    check(TREES[name], Tree((2, 1)), pair, Limits(3, sampling))
    check(TREES[name], Tree((3,)), pair, Limits(3, sampling))


@pytest.mark.parametrize("name", TREES)
def test_more_children_than_tokens(name):
    check(TREES[name], Tree((3,)), limits=Limits(4, NARROW))
    check(TREES[name], Tree((4,)), limits=Limits(2, WIDE, draft_sampling=Sampling(1.0, top_k=2)))


@pytest.mark.parametrize("name", TREES)
def test_early_stop(name):
    check(TREES[name], Tree((2, 1)), stop=SometimesShort, limits=Limits(4, NARROW))
    check(TREES[name], Tree((2, 2)), stop=lambda: Static(1))
    check(TREES[name], Tree((2, 2)), stop=lambda: Static(0))


@pytest.mark.parametrize("name", TREES)
def test_chain_of_a_tree_verifier(name):
    check(TREES[name], Chain(), limits=Limits(4, NARROW))


@pytest.mark.parametrize("pair", [FULL, PRUNED, ZEROS, EQUAL], ids=["full", "pruned", "zeros", "p=q"])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_block(length, pair):
    check(Block(), Chain(), pair, Limits(5, NARROW), stop=lambda: Static(length))
    check(Block(), Chain(), pair, Limits(4, Sampling(0.7)) if length < 3 else Limits(3), stop=lambda: Static(length))


@pytest.mark.parametrize("warp", WARPS)
def test_block_warps(warp):
    check(Block(), Chain(), limits=replace(WARPS[warp], max_new_tokens=4))
    check(Block(), Chain(), stop=SometimesShort, limits=WARPS[warp])
