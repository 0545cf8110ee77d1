"""Keyed coins: uniform, independent across every field of their key, the same in any batch, safe at both ends of [0, 1)."""

import hashlib

import numpy as np
import pytest
import torch
from scipy import stats

from drafters.rng import coins_host
from drafters.rng.coins import PURPOSES, HashedCoins, Key, KeyedCoins, draw_by

ALPHA = 1e-6
N = 100_000


def key(position=7, rounds=5, rows=1, **fields):
    full = torch.full((rows,), rounds) if rounds is not None else None
    return Key(torch.full((rows,), position), full, **({"purpose": "draft"} | fields))


def coins_of(**varied) -> np.ndarray:
    """N coins whose keys differ in one field only."""
    (field, values), *_ = varied.items()
    if field == "request":
        return KeyedCoins(0, values).uniform(key(rows=len(values))).numpy()
    if field == "seed":
        return np.array([float(KeyedCoins(int(seed), torch.tensor([0])).uniform(key())) for seed in values[:5_000]])
    one = KeyedCoins(0, torch.tensor([0]))
    if field == "node":
        return one.uniform(key(node=values))[0].numpy()
    if field == "draw":
        return np.array([float(one.uniform(key(draw=int(draw)))) for draw in values[:5_000]])
    rows = KeyedCoins(0, torch.zeros(len(values), dtype=torch.int64))
    if field == "position":
        return rows.uniform(Key(values, torch.full_like(values, 5), "draft")).numpy()
    if field == "position alone":
        return rows.uniform(Key(values, None, "bonus")).numpy()
    return rows.uniform(Key(torch.full_like(values, 7), values, "draft")).numpy()


FIELDS = ["request", "seed", "position", "position alone", "round", "node", "draw"]


@pytest.mark.parametrize("field", FIELDS)
def test_coins_are_uniform_and_serially_independent(field):
    coins = coins_of(**{field: torch.arange(N)})
    assert coins.min() >= 0.0
    assert coins.max() < 1.0
    assert stats.kstest(coins, "uniform").pvalue > ALPHA
    for lag in (1, 2, 64):
        pairs, *_ = np.histogram2d(coins[:-lag], coins[lag:], bins=16, range=[[0, 1], [0, 1]])
        assert stats.chisquare(pairs.ravel()).pvalue > ALPHA
    low_bits = (coins * 2.0**53).astype(np.int64) & 0xFF
    assert stats.chisquare(np.bincount(low_bits, minlength=256)).pvalue > ALPHA


def test_purposes_rounds_and_draws_of_one_place_are_independent():
    requests = torch.arange(N)
    coins = KeyedCoins(0, requests)
    base = {"position": 7, "rounds": 5, "purpose": "draft", "node": 0, "draw": 0}
    changes = [{"purpose": name} for name in PURPOSES if name not in ("draft", "race")]
    changes += [
        {"rounds": 6},
        {"rounds": None},
        {"node": 1},
        {"draw": 1},
        {"position": 8},
        {"position": 5, "rounds": 7},
    ]
    first = coins.uniform(key(rows=N, **base)).numpy()
    for change in changes:
        second = coins.uniform(key(rows=N, **(base | change))).numpy()
        pairs, *_ = np.histogram2d(first, second, bins=16, range=[[0, 1], [0, 1]])
        assert stats.chisquare(pairs.ravel()).pvalue > ALPHA, change


def test_no_two_names_share_a_coin():
    """Position, round and node are small integers: their mixture must not collide by arithmetic."""
    coins = KeyedCoins(0, torch.zeros(64 * 64, dtype=torch.int64))
    position, rounds = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    drawn = [
        coins.uniform(Key(position.flatten(), rounds.flatten(), purpose, node=node, draw=draw))
        for purpose in ("draft", "accept", "residual", "bonus")
        for node in range(4)
        for draw in range(2)
    ]
    assert torch.cat(drawn).unique().numel() == 64 * 64 * 32


def test_a_coin_does_not_depend_on_its_batch():
    requests = torch.tensor([5, 0, 9, 1_000_000_007])
    position, rounds = torch.tensor([3, 8, 1, 4]), torch.tensor([2, 8, 1, 0])
    together = KeyedCoins(11, requests).uniform(Key(position, rounds, "accept"))
    for row in range(4):
        alone = KeyedCoins(11, requests[[row]]).uniform(Key(position[[row]], rounds[[row]], "accept"))
        assert torch.equal(alone[0], together[row])


def test_many_nodes_at_once_equal_one_by_one():
    coins = KeyedCoins(3, torch.arange(4))
    position, rounds, nodes = torch.arange(12).view(4, 3), torch.arange(4), torch.tensor([0, 2, 5])
    wide = coins.uniform(Key(position, rounds, "accept", node=nodes))
    for column, node in enumerate(nodes.tolist()):
        assert torch.equal(wide[:, column], coins.uniform(Key(position[:, column], rounds, "accept", node=node)))
    flat = coins.uniform(Key(torch.arange(4), rounds, "accept", node=nodes))
    assert torch.equal(flat[:, 1], coins.uniform(Key(torch.arange(4), rounds, "accept", node=2)))


def test_coins_never_change():
    """Certificates and published samples name seeds: another hash would be another library."""
    coins = KeyedCoins(2024, torch.arange(1000)).uniform(key(rows=1000))
    assert hashlib.sha256(coins.numpy().tobytes()).hexdigest()[:16] == "1e14ad742e8a7577"


# --- decisions ---


class Fixed(KeyedCoins):
    """Coins of one given value."""

    def __init__(self, value, rows=1):
        super().__init__(0, torch.arange(rows))
        self.value = value

    def uniform(self, key):
        rows = self.requests.shape[0]
        shape = (rows, key.position.shape[1]) if key.position.ndim == 2 else (rows,)
        return torch.full(shape, self.value, dtype=torch.float64)


ENDS = [0.0, 2.0**-53, 0.5, 1.0 - 2.0**-53]


@pytest.mark.parametrize("coin", ENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_coin_draws_a_token_without_mass(coin, dtype):
    laws = torch.tensor(
        [
            [0.0, 0.0, 1.0, 0.0],
            [0.0, 0.3, 0.7, 0.0],
            [1e-30, 0.0, 0.0, 1e-30],
            [0.0, 1e-38, 1.0, 0.0],
            [0.1, 0.2, 0.7, 0.0],
        ],
        dtype=dtype,
    )
    token = Fixed(coin, 5).draw(laws, key(rows=5))
    assert (laws.gather(1, token.unsqueeze(1)) > 0).all()


def test_the_ends_of_a_large_vocabulary():
    law = torch.rand(1, 151_936).softmax(-1)
    law[0, :7] = law[0, -9:] = 0.0
    assert int(Fixed(0.0).draw(law, key())) == 7
    assert int(Fixed(1.0 - 2.0**-53).draw(law, key())) == 151_936 - 10


@pytest.mark.parametrize("coin", ENDS)
def test_acceptance_is_strict(coin):
    zero, half, one = (torch.tensor([x], dtype=torch.float64) for x in (0.0, 0.5, 1.0))
    accept = Fixed(coin).accept
    assert not accept(zero, half, key())  # the target never says it
    assert not accept(zero, zero, key())  # a miss
    assert accept(half, half, key())
    assert accept(one, half, key())
    assert accept(half, zero, key())
    assert bool(accept(half, one, key())) == (coin < 0.5)


def test_a_rows_tests_end_at_its_first_failure():
    p_x = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    passed = Fixed(0.5, 3).accept(p_x, torch.ones(3, 3), Key(torch.zeros(3, 3, dtype=torch.int64), None, "accept"))
    assert passed.tolist() == [[True, False, False], [False, False, False], [True, True, True]]
    nothing = torch.zeros(3, 0)
    assert Fixed(0.5, 3).accept(nothing, nothing, Key(nothing.long(), None, "accept")).shape == (3, 0)


def test_draws_equal_the_inverse_of_the_distribution_function():
    rows = 500
    law = torch.rand(rows, 40, dtype=torch.float64) * (torch.rand(rows, 40) < 0.6)
    law[:, 13] += 0.01
    coins = KeyedCoins(9, torch.arange(rows))
    token = coins.draw(law, key(rows=rows))
    uniforms = coins.uniform(key(rows=rows)).numpy()
    for row, (weights, u) in enumerate(zip(law.numpy(), uniforms, strict=True)):
        assert int(token[row]) == int(np.searchsorted(np.cumsum(weights), u * weights.sum(), side="right"))


def test_draws_follow_their_law_whatever_its_total():
    law = torch.tensor([0.5, 0.0, 0.125, 0.25, 0.125]) * 3.0
    token = KeyedCoins(1, torch.arange(N)).draw(law.expand(N, -1), key(rows=N))
    counts = torch.bincount(token, minlength=5).numpy()
    assert counts[1] == 0
    assert stats.chisquare(counts[[0, 2, 3, 4]], np.array([0.5, 0.125, 0.25, 0.125]) * N).pvalue > ALPHA


# --- strict mode ---


def test_a_key_used_twice_raises_in_strict_mode():
    coins = KeyedCoins(0, torch.tensor([4, 5]), strict=True)
    coins.uniform(key(rows=2))
    for other in ({"position": 8}, {"rounds": 6}, {"node": 1}, {"draw": 1}, {"purpose": "accept"}):
        coins.uniform(key(rows=2, **other))
    with pytest.raises(RuntimeError, match="coin used twice: request 4, position 7, round 5, node 0, draft"):
        coins.uniform(key(rows=2))


def test_replays_and_rows_without_a_decision_are_no_second_use():
    coins = KeyedCoins(0, torch.tensor([4]), strict=True)
    for _ in range(2):
        coins.uniform(key(rounds=None))
        coins.uniform(key(position=-1))
    nodes = torch.tensor([0, 1])
    coins.uniform(Key(torch.tensor([[3, -1]]), torch.tensor([3]), "accept", node=nodes))
    coins.uniform(Key(torch.tensor([[-1, 4]]), torch.tensor([3]), "accept", node=nodes))
    with pytest.raises(RuntimeError, match="node 1"):
        coins.uniform(Key(torch.tensor([[-1, 4]]), torch.tensor([3]), "accept", node=nodes))


def test_other_requests_have_other_coins_and_their_own_register():
    coins = KeyedCoins(0, torch.tensor([4]), strict=True)
    first = coins.uniform(key())
    again = coins.take(torch.tensor([4, 9])).uniform(key(rows=2))
    assert torch.equal(first[0], again[0])
    assert first[0] != again[1]


@pytest.mark.parametrize("rounds", [None, torch.tensor([4, 0, 9])])
@pytest.mark.parametrize("node", [0, 3, torch.tensor([0, 4])])
@pytest.mark.parametrize("position", [torch.tensor([5, -1, 1 << 40]), torch.tensor([[5, 6], [7, -1], [9, 10]])])
def test_coins_of_the_host_have_the_bits_of_the_devices(position, node, rounds):
    """On the CPU the coins are hashed without tensors; a GPU hashes them with tensors."""
    host = KeyedCoins(2**62 + 1, torch.tensor([1, 9999, 3]))
    device = HashedCoins(host.base)
    name = Key(position, rounds, "accept", node, draw=2)
    assert torch.equal(host.uniform(name), device.uniform(name))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_host_draws_what_a_device_draws(dtype):
    """A GPU's way of drawing, run here: coins at both ends, rows without mass at the ends, unnormalised ones."""
    generator = torch.Generator().manual_seed(0)
    law = torch.rand(400, 50, generator=generator, dtype=dtype).pow(6) * 3
    law[:100, :20], law[100:200, 30:] = 0.0, 0.0
    law[200] = 0.0
    law[200, 7] = 1e-30
    u = torch.rand(400, generator=generator, dtype=torch.float64)
    u[::4], u[1::4] = 0.0, 1.0 - 2.0**-53
    drawn = draw_by(u, law)
    assert torch.equal(coins_host.draw_by(u, law), drawn)
    assert bool((law.gather(1, drawn.unsqueeze(1)) > 0).all())
