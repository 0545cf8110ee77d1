"""Runs that are not those of their laws are told; runs that are, are not."""

import dataclasses

import numpy as np
import pytest
import torch

from drafters.engine.decode import speculative
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import build
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import identity
from eval.expectation.agreement import disagreement
from eval.expectation.common_text import common_text
from eval.expectation.expect import expectations
from eval.expectation.expected_rounds import Rounds, expected_rounds
from eval.lossless.toys.table_models import Table, TablePair
from eval.run.configurations import Drafter
from eval.run.records import SPECULATIVE, Configuration, Record, record
from eval.run.trials import Warps

PROMPTS, NEW, LENGTH = 48, 40, 3
GREEDY, SAMPLED = Sampling(0.0), Sampling(1.0)


def alike(vocabulary: int, seed: int, noise: float = 1.0) -> TablePair:
    """A drafter that resembles its target."""
    target, other = Table.random(vocabulary, 0), Table.random(vocabulary, seed + 1, scale=noise)
    return TablePair(target, Table(target.logits + other.logits), identity(vocabulary))


def prompts(pair: TablePair) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return list(torch.randint(pair.target.logits.shape[1], (PROMPTS, 5), generator=generator))


def ran(pair, name, warps, seed=1):
    """Records of every prompt alone."""
    key = Configuration("package", name, SPECULATIVE, "static", warps[0].temperature, None, name)
    limits = Warps(draft=warps[1]).limits(warps[0].temperature, NEW)
    sampler = build(name, pair.vocab)
    coins = KeyedCoins(seed, torch.arange(PROMPTS))
    whole = speculative(pair, sampler, Static(LENGTH), prompts(pair), coins, limits)
    return [
        record(key, one(whole, number), prompt=str(number), prompt_tokens=5, repeat=0, seconds=1.0, greedy=None)
        for number in range(PROMPTS)
    ]


def one(decoded, row):
    """A request of a batch."""
    fields = {field.name: getattr(decoded, field.name)[row : row + 1] for field in dataclasses.fields(decoded)}
    return type(decoded)(**fields)


def expected(pair, name, warps, seed=0):
    limits = Warps(draft=warps[1]).limits(warps[0].temperature, NEW)
    texts = common_text(pair, prompts(pair), list(range(PROMPTS)), limits, seed, 10**9)
    samplers = {"package": {name: build(name, pair.vocab)}}
    made = expectations(texts, [Drafter("package", pair, pair.vocab)], samplers, *warps, LENGTH, 0)
    return expected_rounds(made["package", name].followed, LENGTH)


IDS = {str(number): number for number in range(PROMPTS)}


@pytest.fixture(scope="module")
def pair():
    return alike(8, 0)


@pytest.mark.parametrize("name", ["standard", "exact_match", "block"])
@pytest.mark.parametrize("warps", [(GREEDY, None), (SAMPLED, None), (GREEDY, SAMPLED)])
def test_what_ran_is_what_was_expected(pair, name, warps):
    certain = warps == (GREEDY, None)
    assert disagreement(ran(pair, name, warps), expected(pair, name, warps), IDS, certain) is None


def test_planted_drafts_of_another_temperature_than_the_logged_law(pair):
    found = disagreement(
        ran(pair, "standard", (SAMPLED, None)), expected(pair, "standard", (SAMPLED, Sampling(20.0))), IDS, False
    )
    assert "tokens per target forward on 48 prompts where its laws let expect" in found


def test_planted_rows_of_another_drafter(pair):
    other = dataclasses.replace(pair, drafter=alike(8, 70, 4.0).drafter)
    for warps, certain, said in (((GREEDY, None), True, "took other rounds"), ((SAMPLED, None), False, "let expect")):
        mine, theirs = ran(pair, "standard", warps), ran(other, "standard", warps)
        assert disagreement(mine, expected(pair, "standard", warps), IDS, certain) is None
        assert said in disagreement(theirs, expected(pair, "standard", warps), IDS, certain)  # the rows are swapped
        assert said in disagreement(mine, expected(other, "standard", warps), IDS, certain)


def test_texts_that_end_early_are_no_bias(pair):
    """Rows whose texts differ in length from the common ones: the mean over many seeds is that of no difference."""
    short = dataclasses.replace(pair, eos=(0,))
    for seed in range(3):
        assert (
            disagreement(
                ran(short, "standard", (SAMPLED, None), 10 + seed),
                expected(short, "standard", (SAMPLED, None), seed),
                IDS,
                False,
            )
            is None
        )


def test_greedy_outputs_that_are_not_the_targets_and_unknown_prompts_say_nothing_here(pair):
    warps = (GREEDY, None)
    rounds = expected(pair, "standard", warps)
    different = [
        dataclasses.replace(item, greedy="different", target_forwards=99) for item in ran(pair, "standard", warps)
    ]
    assert disagreement(different, rounds, IDS, True) is None
    assert disagreement([dataclasses.replace(item, greedy=None) for item in different], rounds, {}, True) is None
    assert disagreement([dataclasses.replace(item, greedy=None) for item in different], rounds, IDS, True) is not None


def test_few_prompts_say_nothing_where_coins_were_thrown(pair):
    few = [dataclasses.replace(item, target_forwards=1) for item in ran(pair, "standard", (SAMPLED, None))[:5]]
    assert disagreement(few, expected(pair, "standard", (SAMPLED, None)), IDS, False) is None


def test_texts_of_other_lengths_hide_no_difference():
    """Planted: a forward more per prompt than expected, on texts of 10 to 40 tokens, which alone move forwards by six."""
    generator = np.random.default_rng(0)
    length, expected_length = 2 * generator.integers(5, 20, (2, 24))
    jitter = np.tile([-1, 0, 1, 0], 6)
    key = Configuration("package", "standard", SPECULATIVE, "static", 1.0, None, "standard")
    for more, told in ((0, False), (1, True)):
        forwards = length // 2 + more + jitter
        lines = [Record(key, str(n), 0, 1, int(length[n]), 0, 0, 0, int(forwards[n]), (), 1.0, None) for n in range(24)]
        nothing = np.zeros(24)
        rounds = Rounds(
            expected_length.astype(float), 0.5 * expected_length, nothing, nothing, nothing, nothing[:, None]
        )
        assert (disagreement(lines, rounds, IDS, False) is not None) == told
