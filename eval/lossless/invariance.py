"""What an output must not depend on: the batch, the numbering of tokens, the drafter at temperature 0, and extreme coins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from drafters.affinity.prior import AffinityPrior
from drafters.engine.decode import autoregressive, speculative
from drafters.engine.limits import Limits
from drafters.probs import Sampling, warp
from drafters.rng.coins import Key, KeyedCoins
from drafters.samplers.catalog import applies, build
from drafters.samplers.draft import Sampler
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import VocabMap
from eval.lossless.exact.exact_law import exact_law, reference_law
from eval.lossless.toys.table_models import Table, TablePair
from eval.lossless.toys.toy_pairs import TOYS, Toy, affordable, random_prior, small
from eval.lossless.toys.toy_policies import STOPS

ROWS, NEW = 12, 6
LARGEST = 1.0 - 2.0**-53  # the largest coin below 1


def toys(name: str) -> list[tuple[Toy, Sampler]]:
    """The pairs that a sampler of the catalog takes, with it on a small tree."""
    found = [(toy, toy.sampler(name)) for toy in TOYS.values()]
    return [(toy, small(sampler, (2, 1))) for toy, sampler in found if sampler is not None]


def prompts(toy: Toy, rows: int) -> list[Tensor]:
    """Ragged prompts made of the toy's own tokens."""
    return [torch.tensor([*toy.prompt, *toy.prompt][: 1 + row % (2 * len(toy.prompt))]) for row in range(rows)]


def greedy_identity(name: str) -> int:
    """Requests whose output at temperature 0 differs from plain greedy decoding's, over all pairs and two policies."""
    wrong = 0
    for toy, sampler in toys(name):
        limits, coins = Limits(NEW, Sampling(0.0)), KeyedCoins(3, torch.arange(ROWS))
        plain = autoregressive(toy.pair, prompts(toy, ROWS), coins, limits)
        for stop in ("length 3", "early stop"):
            fast = speculative(toy.pair, sampler, STOPS[stop](), prompts(toy, ROWS), coins, limits)
            wrong += differing(plain.tokens, fast.tokens)
    return wrong


def batch_dependence(name: str, coins: Callable[[Tensor], KeyedCoins] = lambda rows: KeyedCoins(3, rows)) -> int:
    """Requests whose output changes when half of the batch is taken away."""
    wrong = 0
    for toy, sampler in toys(name):
        limits, texts = Limits(NEW, Sampling(1.1)), prompts(toy, ROWS)
        together = speculative(toy.pair, sampler, STOPS["early stop"](), texts, coins(torch.arange(ROWS)), limits)
        some = torch.arange(ROWS)[1::2]
        alone = speculative(toy.pair, sampler, STOPS["early stop"](), texts[1::2], coins(some), limits)
        wrong += differing([together.tokens[row] for row in some.tolist()], alone.tokens)
    return wrong


def differing(ours: list[Tensor], theirs: list[Tensor]) -> int:
    """How many of the rows are not equal."""
    return sum(not torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


class ExtremeCoins(KeyedCoins):
    """Every coin is `value`: 0, or the largest number below 1. Rounding and strictness show nowhere else."""

    value = 0.0

    def uniform(self, key: Key) -> Tensor:
        """`value` in every place, in the shape of `KeyedCoins.uniform`."""
        return torch.full_like(super().uniform(key), self.value)


class LargestCoins(ExtremeCoins):
    """Every coin is 1 - 2^-53."""

    value = LARGEST


def impossible_tokens(sampler: Sampler, pair: TablePair, prompt: list[int], coins: KeyedCoins, limits: Limits) -> int:
    """Emitted tokens that have probability 0 under the target's distribution."""
    rows = len(coins.requests)
    out = speculative(pair, sampler, Static(3), [torch.tensor(prompt)] * rows, coins, limits)
    bad = 0
    for tokens in out.tokens:
        text = list(prompt)
        for token in tokens.tolist():
            bad += float(warp(pair.target.after(text), limits.sampling)[token]) == 0.0
            text.append(token)
    return bad


def extreme_coins(name: str) -> int:
    """Tokens of probability 0 emitted under extreme coins, where the target's distribution is cut to two tokens."""
    limits = Limits(NEW, Sampling(1.0, top_k=2), draft_sampling=Sampling(1.0))
    return sum(
        impossible_tokens(sampler, toy.pair, toy.prompt, coins(0, torch.arange(4)), limits)
        for toy, sampler in toys(name)
        for coins in (ExtremeCoins, LargestCoins)
    )


def relabelled(pair: TablePair, order: Tensor) -> TablePair:
    """The same pair with target token t named order[t]; drafter ids stay."""
    back = order.argsort()
    to_target = torch.where(pair.vocab.to_target >= 0, order[pair.vocab.to_target.clamp(min=0)], -1)
    return replace(
        pair,
        target=_Renamed(pair.target, order),
        vocab=VocabMap(to_target, pair.vocab.to_drafter[back]),
        eos=tuple(int(order[token]) for token in pair.eos),
        spelling=tuple(_spelling(pair, int(token)) for token in back),
    )


def _spelling(pair: TablePair, token: int) -> tuple[int, ...]:
    return tuple(pair.feed(token))


class _Renamed(Table):
    """A table whose tokens have other names; its contexts hash the old ones."""

    def __init__(self, table: Table, order: Tensor):
        super().__init__(table.logits[:, order.argsort()].contiguous(), table.block)
        object.__setattr__(self, "old", order.argsort())

    def entry(self, tokens: Tensor, place: Tensor) -> Tensor:
        """The entry of the renumbered table at `place`, asked for by the old ids (`Table.entry`)."""
        return super().entry(self.old[tokens.clamp(min=0)], place)  # type: ignore[attr-defined]


def relabelling_error(name: str) -> float:
    """The largest change of a sequence's probability when the target's tokens are renumbered, renamed back.

    String-level samplers are left out by their pairs: their texts name the tokens already.
    """
    worst = 0.0
    for toy, sampler in toys(name):
        if toy.pair.texts is not None or sampler.verifier.coupled:
            continue
        order = torch.arange(toy.pair.target.logits.shape[1]).roll(1)
        pair = relabelled(toy.pair, order)
        prior = random_prior(toy.pair.vocab, seed=5)
        moved = AffinityPrior(order[prior.index.long()].int(), prior.weight, prior.share)
        if not applies(name, pair.vocab, affinity=moved, tail=True):
            continue  # a sampler of one shared numbering, e.g. standard
        other = small(build(name, pair.vocab, affinity=moved, tail=True), (2, 1))
        limits = affordable(other, Limits(3, Sampling(0.8)))
        law = exact_law(other, lambda: Static(2), pair, [int(order[token]) for token in toy.prompt], limits)
        reference = reference_law(toy.pair, toy.prompt, limits)
        renamed = {tuple(int(order[token]) for token in tokens): weight for tokens, weight in reference.items()}
        worst = max(worst, *(abs(law.get(key, 0.0) - renamed.get(key, 0.0)) for key in law.keys() | renamed.keys()))
    return worst
