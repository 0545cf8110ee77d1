"""The toy pairs of the gate: small enough that every branch can be run, odd enough that every map has its awkward ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from drafters.affinity.prior import AffinityPrior
from drafters.engine.limits import Limits
from drafters.samplers.catalog import applies, build
from drafters.samplers.draft import Sampler, StringProposal, Tree
from drafters.vocab.alignment import VocabMap, identity, restrict
from eval.lossless.toys.table_models import Table, TablePair, foreign_pair, full_pair, pruned_pair
from eval.lossless.toys.text_table_models import many_to_one_pair, short_drafter_pair


@dataclass(frozen=True)
class Toy:
    """A pair of table models with a prompt, and how many new tokens can be enumerated."""

    pair: TablePair
    prompt: list[int]
    new: int

    def sampler(self, name: str, **options: Any) -> Sampler | None:
        """The catalog's sampler for this pair; None where its builder refuses the pair."""
        prior = random_prior(self.pair.vocab, seed=5)
        more = {"texts": self.pair.texts, "affinity": prior, "tail": True}
        return build(name, self.pair.vocab, options, **more) if applies(name, self.pair.vocab, **more) else None


# The foreign prompt ends with a token that the drafter cannot spell.
TOYS = {
    "full": Toy(full_pair(3, 0, eos=(2,)), [0], 4),
    "pruned": Toy(pruned_pair(3, [0, 2], 10, eos=(1,)), [0, 1, 0], 4),
    "foreign": Toy(foreign_pair(20, eos=(0,)), [2, 0, 3], 3),
    "many-to-one": Toy(many_to_one_pair(30), [1, 3], 3),
    "short": Toy(short_drafter_pair(40), [2, 1], 3),
}


def random_prior(vocab: VocabMap, seed: int, neighbours: int = 2) -> AffinityPrior:
    """A prior without meaning: any one must be lossless. Every donor gives some of its mass to random target tokens."""
    generator = torch.Generator().manual_seed(seed)
    size, targets = vocab.to_target.shape[0], vocab.to_drafter.shape[0]
    scores = torch.rand(size, targets, generator=generator)
    index = scores.argsort(-1)[:, : min(neighbours, targets)].sort(-1).values
    weight = torch.rand(index.shape, generator=generator) + 0.1
    share = 0.1 + 0.8 * torch.rand(size, generator=generator)
    return AffinityPrior(index.int(), weight / weight.sum(-1, keepdim=True), share)


def small(sampler: Sampler, branching: Sequence[int | tuple[int, ...]] = (1, 2)) -> Sampler:
    """A tree of few nodes in place of the catalog's: every branch of its draws is run. Chains stay."""
    return replace(sampler, shape=Tree(tuple(branching))) if isinstance(sampler.shape, Tree) else sampler


def affordable(sampler: Sampler, limits: Limits) -> Limits:
    """Limits under which a sampler's branches can all be run: fewer tokens for trees, fewer drafts for string proposals."""
    if isinstance(sampler.proposal, StringProposal) and limits.draft_sampling is None:
        limits = replace(limits, draft_sampling=replace(limits.sampling, top_k=2))  # D branches a draw are too many
    if isinstance(sampler.shape, Tree):
        limits = replace(limits, max_new_tokens=min(3, limits.max_new_tokens))
    return limits


@dataclass(frozen=True)
class Blocks:
    """A pair whose laws forget what was before a block of three tokens: one request holds many independent triples."""

    pair: TablePair
    prompt: list[int]

    @property
    def vocabulary(self) -> int:
        """V."""
        return self.pair.target.logits.shape[1]


BLOCK = 3


def blocks(kept: Sequence[int], seed: int, vocabulary: int = 4, noise: float = 0.7) -> Blocks:
    """A drafter that resembles its target, as real ones do, and knows the tokens `kept`."""
    target, other = Table.random(vocabulary, seed), Table.random(vocabulary, seed + 1, scale=noise)
    ids = torch.tensor(kept)
    drafter = Table((target.logits + other.logits)[:, ids].contiguous(), BLOCK)
    return Blocks(TablePair(Table(target.logits, BLOCK), drafter, restrict(identity(vocabulary), ids)), [0, 1, 2])


def worded_blocks(seed: int) -> Blocks:
    """The same with texts, for string-level samplers: V = 4, D = 6, misses and many-to-one tokens."""
    pair = many_to_one_pair(seed)
    pair = replace(pair, eos=(), target=replace(pair.target, block=BLOCK), drafter=replace(pair.drafter, block=BLOCK))
    return Blocks(pair, [1, 3, 2])


def moved(pair: TablePair, device: torch.device) -> TablePair:
    """The pair with its tables and its maps on a device."""

    def table(one: Table) -> Table:
        return replace(one, logits=one.logits.to(device))

    vocab = VocabMap(pair.vocab.to_target.to(device), pair.vocab.to_drafter.to(device))
    return replace(pair, target=table(pair.target), drafter=table(pair.drafter), vocab=vocab, device=device)
