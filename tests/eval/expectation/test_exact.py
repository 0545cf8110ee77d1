"""Expected rounds equal those of the engine under all branches of its coins, for every rule; planted mistakes do not."""

from collections import defaultdict

import pytest
import torch

from drafters.engine.decode import speculative
from drafters.engine.limits import Limits
from drafters.probs import Sampling
from drafters.samplers.draft import Sampler
from drafters.stop.policies.static import Static
from eval.expectation.common_text import Continuation, drafter_logits, readable, target_logits
from eval.expectation.expected_rounds import Followed, expected_rounds
from eval.lossless.exact.enumeration import branches
from eval.lossless.exact.exact_law import reference_law
from eval.lossless.toys.toy_pairs import TOYS, small
from tests.eval.expectation.survival import survival_of

COUNTS = ("tokens", "target_forwards", "accepted", "verified")
CHAINS = [
    ("full", "standard"), ("pruned", "tli"), ("pruned", "rdk"), ("pruned", "union"), ("pruned", "block"), ("full", "block"),
    ("pruned", "exact_match"), ("foreign", "tli"), ("foreign", "union"),
]  # fmt: skip
TREES = [("full", name) for name in ("rrs", "kseq", "greedy", "traversal")] + [
    ("pruned", "greedy"),
    ("pruned", "traversal"),
]
SHAPES = [(2, 1), (3,), (1, 2)]


def by_engine(sampler: Sampler, toy, limits: Limits, longest: int) -> dict[str, float]:
    """Exact expectations, by running every branch."""
    total: dict[str, float] = defaultdict(float)
    for coins in branches(4096):
        prompts = [torch.tensor(toy.prompt)] * len(coins)
        decoded = speculative(toy.pair, sampler, Static(longest), prompts, coins, limits)
        tokens = torch.tensor([len(new) for new in decoded.tokens])
        for name, values in zip(
            COUNTS, (tokens, decoded.target_forwards, decoded.accepted, decoded.verified), strict=True
        ):
            total[name] += float((values.cpu().double() * coins.weight).sum())
    return dict(total)


def by_expectation(sampler: Sampler, toy, limits: Limits, longest: int) -> dict[str, float]:
    """The same, by the rules: the mean over every text of the target."""
    total: dict[str, float] = defaultdict(float)
    generator = torch.Generator().manual_seed(0)
    for new, weight in reference_law(toy.pair, toy.prompt, limits).items():
        text = Continuation(torch.tensor(toy.prompt), torch.tensor(new), limits.max_new_tokens)
        survival = survival_of(
            sampler, target_logits(toy.pair, text), drafter_logits(toy.pair, text), text.new, readable(toy.pair, text),
            limits.sampling, limits.draft_sampling, longest, generator,
        )  # fmt: skip
        rounds = expected_rounds([Followed(survival.numpy(), readable(toy.pair, text).numpy(), text.limit)], longest)
        for name in COUNTS:
            total[name] += weight * float(getattr(rounds, name)[0])
    return dict(total)


def agree(sampler: Sampler, toy, limits: Limits, longest: int) -> None:
    engine, expected = by_engine(sampler, toy, limits, longest), by_expectation(sampler, toy, limits, longest)
    for name in COUNTS:
        assert expected[name] == pytest.approx(engine[name], abs=1e-10), name


@pytest.mark.parametrize("longest", [1, 2, 3])
@pytest.mark.parametrize(("toy", "name"), CHAINS)
def test_chains(toy, name, longest):
    sampler = TOYS[toy].sampler(name)
    agree(sampler, TOYS[toy], Limits(3, Sampling(1.0)), longest)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("toy", "name"), TREES)
def test_trees(toy, name, shape):
    sampler = small(TOYS[toy].sampler(name), shape)
    agree(sampler, TOYS[toy], Limits(3, Sampling(1.0)), len(shape))
