"""What a planted bug is planted into, and the kinds of test that look for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from drafters.engine.decode import speculative
from drafters.engine.limits import Limits
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.samplers.draft import Chain, Sampler
from drafters.stop.policies.static import Static
from eval.acceptance.optimal import optimal_acceptance
from eval.lossless.exact.exact_law import exact_law, reference_law, total_variation
from eval.lossless.exact.one_round import one_round, play, random_laws
from eval.lossless.invariance import ExtremeCoins, LargestCoins, impossible_tokens
from eval.lossless.pathwise import LIMITS, PAIRS, ROWS, differing
from eval.lossless.sampled import BIAS, draw, joint_law, tests
from eval.lossless.toys.table_models import TablePair, full_pair
from eval.lossless.toys.toy_pairs import Blocks, blocks
from eval.stats.chi_square import ALPHA, p_value, samples_needed

EXACT, SAMPLED, PATH, COINS, BATCH, GAP = "exact law", "chi-square", "pathwise", "extreme coins", "batch", "optimum gap"
KINDS = (EXACT, SAMPLED, PATH, COINS, BATCH, GAP)
WRONG = 1e-6  # a million times the tolerance of the exact law
DEPTH, PLAYED = 2, 250_000  # of one round played alone


@dataclass(frozen=True)
class Subject:
    """A sampler with the toys on which each kind of test runs it."""

    sampler: Sampler
    pair: TablePair = field(default_factory=lambda: full_pair(3, 60, eos=(2,)))
    prompt: tuple[int, ...] = (0, 1)
    sampling: Sampling = field(default_factory=Sampling)
    drafting: Sampling | None = None
    new: int = 3
    length: int = 2
    depth: int = 4  # drafted per round where whole requests are sampled
    blocks: Blocks = field(default_factory=lambda: blocks([0, 1, 2, 3], 70, noise=1.0))
    coins: Callable[[int, Tensor], KeyedCoins] = KeyedCoins
    round_laws: tuple[Tensor, Tensor] | None = None  # chi-square of one round on these laws, not of whole requests

    @property
    def branching(self) -> tuple[Any, ...]:
        """Of one round: a chain of DEPTH, or the tree."""
        return (1,) * DEPTH if isinstance(self.sampler.shape, Chain) else self.sampler.shape.branching


Plant = Callable[[Subject], AbstractContextManager[Subject]]


@dataclass(frozen=True)
class Mutant:
    """One bug. `kinds` are those that can see it; `blind` says why the others cannot."""

    source: str  # of the list it comes from, e.g. M3 or T5
    title: str
    subject: Callable[[], Subject]
    plant: Plant
    kinds: tuple[str, ...]
    blind: str = ""


def instead(**changes: Any) -> Plant:
    """Plant by replacing fields of the subject; a field's value may be a function of the subject."""

    @contextmanager
    def plant(subject: Subject) -> Iterator[Subject]:
        yield replace(subject, **changes)

    return plant


def verifier(make: Callable[[], Any]) -> Plant:
    """Plant another verifier."""

    @contextmanager
    def plant(subject: Subject) -> Iterator[Subject]:
        yield replace(subject, sampler=replace(subject.sampler, verifier=make()))

    return plant


def patched(owner: Any, name: str, wrong: Callable[[Any], Any]) -> Plant:
    """Plant by replacing an attribute of a module or class by `wrong(the right one)`."""

    @contextmanager
    def plant(subject: Subject) -> Iterator[Subject]:
        with mock.patch.object(owner, name, wrong(getattr(owner, name))):
            yield subject

    return plant


def rejects(kind: str, subject: Subject) -> bool:
    """Whether this kind of test finds something wrong with the subject as it stands."""
    return _TESTS[kind](subject)


def _exact(subject: Subject) -> bool:
    limits = Limits(subject.new, subject.sampling, subject.drafting)
    try:
        law = exact_law(subject.sampler, lambda: Static(subject.length), subject.pair, list(subject.prompt), limits)
    except RuntimeError:  # a coin used twice, or replayed under another law
        return True
    return total_variation(law, reference_law(subject.pair, list(subject.prompt), limits)) >= WRONG


def _sampled(subject: Subject) -> bool:
    """In growing samples up to the one that sees BIAS for certain: a large bias shows in a small one."""
    if subject.round_laws is not None:
        return _round_sampled(subject, *subject.round_laws)
    law = joint_law(subject.blocks, subject.sampling)
    needed = samples_needed(law.size, BIAS)
    for rows in (264, 1056):
        triples = needed if rows == 1056 else 1
        sequences = draw(subject.blocks, subject.sampler, triples, subject.sampling, subject.coins, rows, subject.depth)
        try:
            found = tests(sequences, law)
        except ValueError:  # an impossible outcome was drawn
            return True
        if min(found.values()) < ALPHA:
            return True
    return False


def _round_sampled(subject: Subject, p: Tensor, q: Tensor) -> bool:
    """The joint law of a round's tokens, what it does not emit drawn from the target."""
    size, rows = p.shape[1], torch.arange(PLAYED)
    _, tokens = play(subject.sampler.verifier, subject.branching, p, q, subject.coins(0, rows), PLAYED)
    context, law = torch.zeros(PLAYED, dtype=torch.int64), p.new_ones(1, 1)
    generator = torch.Generator().manual_seed(1)
    for depth in range(tokens.shape[1]):
        fresh = p[context].multinomial(1, generator=generator).squeeze(1)
        tokens[:, depth] = torch.where(tokens[:, depth] >= 0, tokens[:, depth], fresh)
        law = law.reshape(-1, 1) * p[(size**depth - 1) // (size - 1) :][: size**depth]
        context = context * size + tokens[:, depth] + 1
        if depth + 1 < tokens.shape[1]:
            assert int(context.max()) < len(p)
    powers = torch.tensor([size**power for power in reversed(range(tokens.shape[1]))])
    counts = np.bincount((tokens @ powers).numpy(), minlength=law.numel())
    return p_value(counts, law.flatten().numpy()) < ALPHA


def _path(subject: Subject) -> bool:
    coins = KeyedCoins(11, torch.arange(ROWS))
    return differing(subject.sampler, PAIRS["full"], "length 3", coins, LIMITS["T=1"]) > 0


def _coins(subject: Subject) -> bool:
    """Extreme coins, planted under the subject's own draw and accept."""
    limits = Limits(6, Sampling(1.0, top_k=2), Sampling(1.0))
    for extreme in (ExtremeCoins, LargestCoins):
        kind = type("Extreme", (extreme, subject.coins), {}) if isinstance(subject.coins, type) else extreme
        coins = kind(0, torch.arange(4))
        for token in range(subject.pair.target.logits.shape[1]):
            if impossible_tokens(subject.sampler, subject.pair, [*subject.prompt, token], coins, limits) > 0:
                return True
    return False


def _batch(subject: Subject) -> bool:
    """Rows of a batch, then half of them alone."""

    limits, rows = Limits(8, subject.sampling), torch.arange(8)
    prompts = [torch.tensor(subject.prompt[: 1 + row % 2]) for row in range(8)]
    pair, sampler = subject.pair, subject.sampler
    whole = speculative(pair, sampler, Static(subject.length), prompts, subject.coins(3, rows), limits)
    half = speculative(pair, sampler, Static(subject.length), prompts[1::2], subject.coins(3, rows[1::2]), limits)
    return any(not torch.equal(a, b) for a, b in zip(whole.tokens[1::2], half.tokens, strict=True))


def _gap(subject: Subject) -> bool:
    """Below the best acceptance that its draft law allows, by more than rounding, on random laws of one level."""

    generator = torch.Generator().manual_seed(3)
    children = int(subject.branching[0])
    for _ in range(5):
        p, q = random_laws(4, 0, generator), random_laws(4, 0, generator)
        reached = one_round(subject.sampler.verifier, (children,), p, q).expected
        if reached < float(optimal_acceptance(p[0], q[0], children, "greedy")) - 1e-9:
            return True
    return False


_TESTS: dict[str, Callable[[Subject], bool]] = {
    EXACT: _exact,
    SAMPLED: _sampled,
    PATH: _path,
    COINS: _coins,
    BATCH: _batch,
    GAP: _gap,
}
