"""Enumerating coins run every branch once, with its probability, and refuse what would not be a proof."""

import itertools
import math

import pytest
import torch

from drafters.rng.coins import Key
from eval.lossless.exact.enumeration import branches


def key(coins, position=0, rounds=0, **fields):
    rows = len(coins)
    full = None if rounds is None else torch.full((rows,), rounds)
    return Key(torch.full((rows,), position), full, **({"purpose": "draft"} | fields))


def law_of(program, rows=4096):
    """{outcome: probability} of a program that returns one tuple per row."""
    law, runs = {}, 0
    for coins in branches(rows):
        for outcome, weight in zip(program(coins), coins.weight.tolist(), strict=True):
            law[outcome] = law.get(outcome, 0.0) + weight
            runs += 1
    return law, runs


def test_independent_draws_multiply():
    first, second = torch.tensor([0.2, 0.0, 0.8]), torch.tensor([3.0, 1.0])  # the second is not normalised

    def program(coins):
        one = coins.draw(first.expand(len(coins), -1), key(coins))
        two = coins.draw(second.expand(len(coins), -1), key(coins, position=1))
        return list(zip(one.tolist(), two.tolist(), strict=True))

    law, runs = law_of(program)
    assert runs == 4  # zero-weight branches are dropped, every other is run once
    assert law == pytest.approx({(0, 0): 0.15, (0, 1): 0.05, (2, 0): 0.6, (2, 1): 0.2}, rel=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 7, 4096])
def test_branches_of_different_lengths(rows):
    """Draw until a 1 comes, at most four times: rows of one batch take different numbers of decisions."""
    law = torch.tensor([0.75, 0.25], dtype=torch.float64)

    def program(coins):
        out = torch.full((len(coins), 4), -1)
        going = torch.ones(len(coins), dtype=torch.bool)
        for step in range(4):
            name = Key(torch.where(going, step, -1), torch.zeros(len(coins), dtype=torch.int64), "draft")
            out[:, step] = torch.where(going, coins.draw(law.expand(len(coins), -1), name), -1)
            going = going & (out[:, step] == 0)
        return [tuple(x for x in row if x >= 0) for row in out.tolist()]

    found, runs = law_of(program, rows)
    assert runs == 5
    expected = {(0,) * n + (1,): 0.75**n * 0.25 for n in range(4)} | {(0,) * 4: 0.75**4}
    assert found == pytest.approx(expected, abs=1e-16)


def test_tests_end_at_the_first_failure():
    p_x, q_x = torch.tensor([0.1, 0.5, 0.3]), torch.tensor([0.4, 0.4, 0.6])

    def program(coins):
        rows, nodes = len(coins), torch.arange(3)
        name = Key(torch.arange(3).expand(rows, -1), torch.zeros(rows, dtype=torch.int64), "accept", node=nodes)
        return [tuple(row) for row in coins.accept(p_x.expand(rows, -1), q_x.expand(rows, -1), name).tolist()]

    law, runs = law_of(program)
    assert runs == 3  # the second test cannot fail
    assert law == pytest.approx(
        {(False, False, False): 0.75, (True, True, False): 0.125, (True, True, True): 0.125}, rel=1e-6
    )


@pytest.mark.parametrize(
    ("p_x", "q_x", "chance"), [(0.0, 0.0, 0.0), (0.0, 0.5, 0.0), (0.5, 0.0, 1.0), (0.5, 0.5, 1.0), (0.25, 1.0, 0.25)]
)
def test_acceptance_probability(p_x, q_x, chance):
    def program(coins):
        rows = len(coins)
        return coins.accept(torch.full((rows,), p_x), torch.full((rows,), q_x), key(coins, purpose="accept")).tolist()

    law, _ = law_of(program)
    assert law.get(True, 0.0) == chance
    assert math.fsum(law.values()) == 1.0


def test_all_sequences_of_a_deeper_program():
    tables = torch.rand(3, 3, 3, dtype=torch.float64) + 0.1

    def program(coins):
        out = [torch.zeros(len(coins), dtype=torch.int64)] * 2
        for step in range(4):
            out.append(coins.draw(tables[out[-2], out[-1]], key(coins, position=step)))
        return list(zip(*(o.tolist() for o in out[2:]), strict=True))

    found, runs = law_of(program, rows=50)
    assert runs == 81
    laws = tables / tables.sum(-1, keepdim=True)
    for sequence in itertools.product(range(3), repeat=4):
        path = (0, 0, *sequence)
        expected = math.prod(float(laws[path[i], path[i + 1], path[i + 2]]) for i in range(4))
        assert found[sequence] == pytest.approx(expected, rel=1e-12)


def half(coins):
    return torch.full((len(coins), 2), 0.5)


def test_a_key_met_twice_is_refused():
    def program(coins, **second):
        coins.draw(half(coins), key(coins))
        coins.draw(half(coins), key(coins, **second))
        return [()] * len(coins)

    with pytest.raises(RuntimeError, match="coin used twice: draft at position 0, node 0, draw 0"):
        law_of(program)
    for other in ({"position": 1}, {"rounds": 1}, {"node": 1}, {"draw": 1}, {"purpose": "residual"}):
        assert law_of(lambda coins, other=other: program(coins, **other))[1] == 4


def test_a_position_keyed_coin_is_replayed_with_its_outcome():
    def program(coins):
        one = coins.draw(half(coins), key(coins, rounds=None, purpose="bonus"))
        two = coins.draw(half(coins), key(coins, rounds=None, purpose="bonus"))
        return list(zip(one.tolist(), two.tolist(), strict=True))

    assert law_of(program)[0] == {(0, 0): 0.5, (1, 1): 0.5}


def test_a_replay_under_another_law_is_refused():
    def program(coins):
        coins.draw(half(coins), key(coins, rounds=None))
        coins.draw(torch.tensor([[0.25, 0.75]]).expand(len(coins), -1), key(coins, rounds=None))
        return [()] * len(coins)

    with pytest.raises(RuntimeError, match="replayed under another law"):
        law_of(program)


def test_rows_without_a_decision_take_none():
    def program(coins):
        coins.draw(half(coins) * 0.0, key(coins, position=-1))
        coins.draw(half(coins), key(coins, position=-1))
        return [()] * len(coins)

    assert law_of(program) == ({(): 1.0}, 1)


def test_a_law_without_mass_is_refused():
    with pytest.raises(RuntimeError, match="no possible outcome"):
        law_of(lambda coins: coins.draw(half(coins) * 0.0, key(coins)).tolist())


def test_races_cannot_be_enumerated():
    with pytest.raises(TypeError, match="continuous"):
        law_of(lambda coins: coins.race(torch.zeros(1, dtype=torch.int64), None))
