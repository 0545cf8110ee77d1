"""Rules that sample, and contexts that end, against runs of the engine on the same texts; planted mistakes are seen."""

import dataclasses
import math

import pytest
import torch

from drafters.engine.decode import speculative
from drafters.engine.limits import Limits
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.samplers.draft import Chain
from drafters.stop.policies.static import Static
from eval.expectation.common_text import Continuation, common_text, drafted, drafter_logits, readable, target_logits
from eval.expectation.expect import expectations
from eval.expectation.expected_rounds import Followed, expected_rounds
from eval.lossless.toys.toy_pairs import TOYS, small
from eval.run.configurations import Drafter
from tests.eval.expectation.survival import survival_of

RUNS, FALSE_ALARM = 4000, 5.0
LIMITS = Limits(5, Sampling(1.0))
# Two children of the three tokens that the foreign drafter can say hide its law nearly: no planted mistake there.
CASES = [("full", "race"), ("pruned", "race"), ("full", "race_tree"), ("foreign", "race_tree"), ("full", "rrs_wor")]
BLUNT = ("foreign", "race_tree")


def sampler_of(toy, name):
    return small(TOYS[toy].sampler(name), (2, 2))


def length_of(sampler):
    return 3 if isinstance(sampler.shape, Chain) else 2


def ran(toy, name):
    """Texts and forwards of many requests."""
    sampler = sampler_of(toy, name)
    prompts = [torch.tensor(TOYS[toy].prompt)] * RUNS
    return speculative(
        TOYS[toy].pair, sampler, Static(length_of(sampler)), prompts, KeyedCoins(1, torch.arange(RUNS)), LIMITS
    )


def expected(toy, name, texts, draft_sampling=None):
    """Expected forwards of each text."""
    sampler, own = sampler_of(toy, name), TOYS[toy]
    longest, generator, found = length_of(sampler), torch.Generator().manual_seed(0), {}
    repeats = 1 if name == "race" else 12  # sampled rules: their own noise must not hide what is looked for
    for new in set(texts):
        text = Continuation(torch.tensor(own.prompt), torch.tensor(new), LIMITS.max_new_tokens)
        goes_on = readable(own.pair, text)
        laws = target_logits(own.pair, text), drafter_logits(own.pair, text), text.new, goes_on
        every = [
            Followed(
                survival_of(sampler, *laws, LIMITS.sampling, draft_sampling, longest, generator).numpy(),
                goes_on.numpy(), text.limit,
            )
            for _ in range(repeats)
        ]  # fmt: skip
        found[new] = float(expected_rounds(every, longest).target_forwards.mean())
    return torch.tensor([found[new] for new in texts])


def z(difference: torch.Tensor) -> float:
    return float(difference.mean() / difference.std()) * math.sqrt(len(difference))


@pytest.mark.parametrize(("toy", "name"), CASES)
def test_forwards_are_those_expected_and_another_draft_law_is_seen(toy, name):
    found = ran(toy, name)
    texts = [tuple(new.tolist()) for new in found.tokens]
    assert abs(z(found.target_forwards - expected(toy, name, texts))) < FALSE_ALARM
    if (toy, name) == BLUNT:
        return
    # A planted mistake: the laws are logged with another temperature of the drafter than drafts were drawn with.
    assert abs(z(found.target_forwards - expected(toy, name, texts, Sampling(4.0)))) > 1.5 * FALSE_ALARM


def on_toy(pair, names, toy="pruned", count=6, positions=1000):
    drafter = Drafter("package", pair, pair.vocab)
    prompts = [torch.tensor(TOYS[toy].prompt)] * count
    texts = common_text(pair, prompts, list(range(count)), Limits(8), 0, positions)
    samplers = {"package": {name: TOYS[toy].sampler(name) for name in names}}
    return texts, expectations(texts, [drafter], samplers, Sampling(1.0), None, 4, 0)


def test_the_common_text_ends_when_it_is_long_enough_but_has_two_prompts():
    pair = TOYS["full"].pair
    prompts, numbers = [torch.tensor([0])] * 40, list(range(40))
    enough = common_text(pair, prompts, numbers, Limits(8), 0, 60)
    assert sum(len(text.new) for text in enough) >= 60 > sum(len(text.new) for text in enough[:-8])
    assert len(common_text(pair, prompts, numbers, Limits(8), 0, 1)) == 2
    assert len(common_text(pair, prompts[:1], numbers[:1], Limits(8), 0, 1)) == 1
    everything = common_text(pair, prompts, numbers, Limits(8), 0, 10**6)
    assert len(everything) == 40
    assert [text.new.tolist() for text in everything[: len(enough)]] == [text.new.tolist() for text in enough]


def test_samplers_of_one_law_have_one_expectation():
    _, full = on_toy(TOYS["full"].pair, ("standard", "tli", "union", "slrs"), "full")
    _, pruned = on_toy(TOYS["pruned"].pair, ("tli", "union"))
    for found in (full, pruned):
        first, *others = found.values()
        for other in others:
            for a, b in zip(first.acceptance, other.acceptance, strict=True):
                assert a == pytest.approx(b, abs=1e-12)
    # Planted: a law of another temperature is another number.
    drafter = Drafter("package", TOYS["pruned"].pair, TOYS["pruned"].pair.vocab)
    texts, _ = on_toy(TOYS["pruned"].pair, ("tli",))
    samplers = {"package": {"tli": TOYS["pruned"].sampler("tli")}}
    other = expectations(texts, [drafter], samplers, Sampling(1.0), Sampling(1.1), 4, 0)
    assert other["package", "tli"].acceptance[0] != pytest.approx(pruned["package", "tli"].acceptance[0], abs=1e-6)


def test_a_sampler_more_changes_no_other_ones_numbers():
    _, alone = on_toy(TOYS["full"].pair, ("rrs_wor",), "full")
    _, beside = on_toy(TOYS["full"].pair, ("race_tree", "rrs", "rrs_wor"), "full")
    for a, b in zip(alone["package", "rrs_wor"].followed, beside["package", "rrs_wor"].followed, strict=True):
        assert a.survival.tolist() == b.survival.tolist()


def test_behind_the_drafters_context_nothing_is_drafted():
    whole = dataclasses.replace(TOYS["pruned"].pair, eos=())
    pair = dataclasses.replace(whole, context=(None, 6))
    texts, found = on_toy(pair, ("tli",))
    _, free = on_toy(whole, ("tli",))
    long = [number for number, text in enumerate(texts) if len(text.new) == 8]
    assert long
    for number in long:
        assert drafted(pair, texts[number]) == 4  # 3 of the prompt, then up to the 6th
        assert found["package", "tli"].acceptance[number][4:].tolist() == [0.0] * 4
        assert found["package", "tli"].acceptance[number][:4] == pytest.approx(
            free["package", "tli"].acceptance[number][:4]
        )
    few = expected_rounds(found["package", "tli"].followed, 3)
    assert bool((few.target_forwards[long] >= 4).all())
    none = dataclasses.replace(pair, context=(None, 2))  # the prompt alone is longer
    rounds = expected_rounds(on_toy(none, ("tli",))[1]["package", "tli"].followed, 3)
    assert rounds.target_forwards == pytest.approx(rounds.tokens)
