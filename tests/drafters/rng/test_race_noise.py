"""The noise that drafter and target share: i.i.d. Exp(1) by token id, and races decided without most of it."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from drafters.rng import race_noise
from drafters.rng.coins import KeyedCoins
from drafters.rng.counter_hash import mix
from drafters.rng.race_noise import BLOCK, SharedNoise

V = 151_936


def noise_of(rows: int, seed: int = 0) -> SharedNoise:
    return SharedNoise(mix(torch.arange(rows) + 1_000_003 * seed))


def full_race(noise: SharedNoise, law: torch.Tensor, count: int) -> torch.Tensor:
    """All scores, sorted; equal ones by id."""
    score = law.double() / noise.exponentials(torch.arange(law.shape[1]))
    order = score.sort(dim=-1, descending=True, stable=True)
    best = torch.where(order.values > 0, order.indices, -1)[:, :count]
    return torch.nn.functional.pad(best, (0, count - best.shape[1]), value=-1)


def heavy(rows: int, vocabulary: int, generator: torch.Generator) -> torch.Tensor:
    """Zipf's law with a random order."""
    ranks = torch.stack([torch.randperm(vocabulary, generator=generator) for _ in range(rows)]) + 1.0
    return torch.nn.functional.normalize(1.0 / ranks, p=1, dim=-1)


def laws(kind: str, rows: int, vocabulary: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if kind == "flat":
        return torch.full((rows, vocabulary), 1.0 / vocabulary)
    if kind == "heavy":
        return heavy(rows, vocabulary, generator)
    logits = torch.randn(rows, vocabulary, generator=generator, dtype=torch.float64) * (
        6.0 if kind == "peaked" else 1.0
    )
    law = logits.softmax(-1)
    if kind == "one-hot":
        return torch.zeros_like(law).scatter_(-1, law.argmax(-1, keepdim=True), 1.0)
    if kind == "holes":
        law = law * (torch.rand(rows, vocabulary, generator=generator) < 0.1)
    if kind == "tiny":
        law = law * 1e-300
    return law.float() if kind == "normal" else law


KINDS = ["flat", "heavy", "normal", "peaked", "one-hot", "holes", "tiny"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocabulary", [1, 5, 63, 64, 65, 1000])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_winners_equal_the_full_race(kind, vocabulary, count):
    law, noise = laws(kind, 40, vocabulary, vocabulary), noise_of(40, vocabulary)
    assert torch.equal(noise.winners(law, count), full_race(noise, law, count))


@pytest.mark.parametrize("kind", KINDS)
def test_winners_equal_the_full_race_on_a_large_vocabulary(kind):
    law, noise = laws(kind, 3, V, 7), noise_of(3, 8)
    for count in (1, 4):
        assert torch.equal(noise.winners(law, count), full_race(noise, law, count))


@pytest.mark.parametrize("vocabulary", [5, 200, 1000])
@pytest.mark.parametrize("levels", [1, 2, 5])
def test_ties_go_to_the_lowest_id(monkeypatch, vocabulary, levels):
    """Noise of few values: most races end in ties, also between a block's bound and the score it bounds."""
    monkeypatch.setattr(race_noise, "exponential", lambda bits: 1.0 + (bits % levels).abs().double())
    for law in (laws("flat", 200, vocabulary, 0), laws("normal", 200, vocabulary, 1).round(decimals=3)):
        noise = noise_of(200, levels)
        assert torch.equal(noise.winners(law, 3), full_race(noise, law, 3))


def test_rows_without_a_decision_and_laws_without_mass_have_no_winner():
    law = laws("normal", 4, 100, 0)
    law[2] = 0.0
    rows = torch.tensor([True, False, True, True])
    got = noise_of(4).winners(law, 2, rows)
    assert (got == -1).all(-1).tolist() == [False, True, True, False]
    assert torch.equal(got[[0, 3]], noise_of(4).winners(law, 2)[[0, 3]])


@pytest.mark.parametrize("kind", ["flat", "heavy", "normal", "peaked"])
def test_races_generate_little_noise(monkeypatch, kind):
    generated = 0
    exponential = race_noise.exponential

    def counted(bits):
        nonlocal generated
        generated += bits.numel()
        return exponential(bits)

    monkeypatch.setattr(race_noise, "exponential", counted)
    rows = 5
    law = laws(kind, rows, V, 3)
    for count in (1, 4):
        generated = 0
        noise_of(rows, 5).winners(law, count)
        assert V / BLOCK < generated / rows < V / 20
    kept = torch.zeros_like(law).scatter_(-1, law.topk(50).indices, 1.0)  # a law of 50 tokens has at most 50 blocks
    generated = 0
    noise_of(rows, 5).winners(kept)
    assert generated / rows < 300


def test_noise_belongs_to_the_token_id():
    noise = noise_of(6)
    every = noise.exponentials(torch.arange(1000))
    some = torch.randperm(1000)[:77]
    assert torch.equal(noise.exponentials(some), every[:, some])
    assert torch.equal(noise.exponentials(torch.arange(2000))[:, :1000], every)
    assert torch.equal(SharedNoise(noise.base[3:4]).exponentials(torch.arange(1000)), every[3:4])


def test_noise_is_independent_and_exponential():
    noise = noise_of(4000).exponentials(torch.arange(3 * BLOCK))  # (4000, 192)
    assert float(noise.min()) > 0
    assert stats.kstest(noise.flatten().numpy(), "expon").pvalue > 1e-6
    for block in noise.split(BLOCK, 1):
        ordered = block.sort(-1).values
        gaps = torch.cat([ordered[:, :1], ordered.diff()], 1) * torch.arange(BLOCK, 0, -1)  # i.i.d. Exp(1) (Renyi 1953)
        assert stats.kstest(gaps.flatten().numpy(), "expon").pvalue > 1e-6
        holders = np.bincount(block.argmin(-1).numpy(), minlength=BLOCK)
        assert stats.chisquare(holders).pvalue > 1e-6
    correlation = np.corrcoef(noise.numpy().T) - np.eye(3 * BLOCK)
    assert np.abs(correlation).max() < 6 / math.sqrt(4000)


def test_noise_of_a_position_depends_on_seed_request_and_position_only():
    ids = torch.arange(200)
    coins = KeyedCoins(3, torch.tensor([5, 6, 7]))
    noise = coins.race(torch.tensor([10, 10, 11]), ids)
    assert torch.equal(KeyedCoins(3, torch.tensor([7])).race(torch.tensor([11]), ids), noise[2:])
    others = [
        KeyedCoins(4, torch.tensor([5])).race(torch.tensor([10]), ids)[0],
        KeyedCoins(3, torch.tensor([5])).race(torch.tensor([11]), ids)[0],
        noise[1],
    ]
    for other in others:
        assert not bool((other == noise[0]).any())
    with pytest.raises(ValueError, match=r"torch\.arange\(V\)"):
        coins.race(torch.tensor([1, 1, 1]), None)


def tail_law(mass: float) -> torch.Tensor:
    """One likely token, and V - 1 that share `mass`."""
    law = torch.full((V,), mass / (V - 1), dtype=torch.float64)
    law[0] = 1.0 - mass
    return law


def tail_share(mass: float, races: int) -> float:
    law, rows = tail_law(mass), 100
    won = [(noise_of(rows, 1 + start).winners(law.expand(rows, -1)) > 0).sum() for start in range(races // rows)]
    return float(sum(won)) / races


@pytest.mark.parametrize("mass", [1e-6, 1e-2])
def test_a_thin_tail_wins_as_often_as_it_should(mass):
    races = 3000
    assert abs(tail_share(mass, races) - mass) < 5 * math.sqrt(mass / races)


def test_noise_in_fp32_fails_that_test():
    """k / 2^24 as a uniform: -log(1 - u) is 0 for some token of the tail once in 110 races, and then it wins."""
    generator = torch.Generator().manual_seed(0)
    mass, races, won = 1e-6, 500, 0
    law = tail_law(mass).float()
    for _ in range(races):
        noise = -torch.log1p(-torch.rand(V, generator=generator))
        won += int((noise / law).argmin()) > 0
    assert won / races - mass > 5 * math.sqrt(mass / races)


def test_no_winner_is_no_race():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        SharedNoise(torch.tensor([1])).winners(torch.ones(1, 8), 0)
