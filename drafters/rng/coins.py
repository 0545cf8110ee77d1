"""Random decisions named by keys: the same key gives the same coin on any device, in any batch, at any time.

Nothing in the library draws from a global generator. A decision is named by (seed, request, position, round, node, draw, purpose) and
its coin is a hash of that name, so batching, scheduling and servers cannot change it: integers in, equal bits out. What a coin is
compared with comes from a model and is equal but for rounding (`drafters.rounding`), so an output changes only where that decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from drafters.rng import coins_host
from drafters.rng.counter_hash import FIRST, SECOND, STEP, mix, mix_int, signed, uniform
from drafters.rng.race_noise import SharedNoise

PURPOSES = {"draft": 1, "accept": 2, "residual": 3, "bonus": 4, "race": 5}


@dataclass(frozen=True)
class Key:
    """Names one random decision per row. A position of -1 marks a row that has no decision to take.

    `round` is None for coupled and target-only samplers: their coins depend on the position alone, and meeting the same
    position again (after a rejection) is a declared replay. `node` may be int64 (M,), naming M decisions per row at once.
    """

    position: Tensor  # int64 (B,) or (B, M): absolute position in the sequence of the token decided
    round: Tensor | None  # int64 (B,): committed length when the round began
    purpose: str  # "draft" | "accept" | "residual" | "bonus"
    node: int | Tensor = 0
    draw: int = 0

    def at(self, **changes: Any) -> Key:
        """The same key with some fields replaced."""
        return replace(self, **changes)


class Coins(Protocol):
    """Every random decision of the library goes through these."""

    def accept(self, p_x: Tensor, q_x: Tensor, key: Key) -> Tensor:
        """True where u * q(x) < p(x), u in [0, 1): bool, shape of p_x.

        For (B,) one test per row. For (B, M) a row's tests are taken from the left and end at its first failure: all later ones
        are False and their coins are not used.
        """
        ...

    def draw(self, law: Tensor, key: Key) -> Tensor:
        """Tokens drawn from the rows of `law`, which need not be normalised: (B, V) -> int64 (B,)."""
        ...

    def race(self, position: Tensor, ids: Tensor | None) -> Tensor:
        """The shared exponentials E of a position, by target id: (B,) positions x (n,) ids -> fp64 (B, n), > 0 and finite."""
        ...

    def winners(self, position: Tensor, law: Tensor, count: int = 1) -> Tensor:
        """The `count` tokens of smallest E / law: (B,), (B, V) -> int64 (B, count), first one first, -1 = no such token."""
        ...


class HashedCoins:
    """Coins that are a hash of the request's own number, int64 (B,), and the key: tensor operations, so that they can be compiled."""

    def __init__(self, base: Tensor):
        self.base = base

    def uniform(self, key: Key) -> Tensor:
        """The coin of every row: fp64 (B,), or (B, M) where the key names M decisions."""
        position, node = key.position, key.node
        wide = position.ndim == 2 or isinstance(node, Tensor)
        base = self.base.unsqueeze(-1) if wide else self.base
        position = position.unsqueeze(-1) if wide and position.ndim == 1 else position
        bits = mix(base ^ (position * STEP + _constant(key)))
        if key.round is not None:
            start = key.round.unsqueeze(-1) if wide else key.round
            place = node * SECOND if isinstance(node, Tensor) else signed(node * SECOND)
            bits = mix(bits + start * FIRST + place + STEP)
        return uniform(bits)

    def accept(self, p_x: Tensor, q_x: Tensor, key: Key) -> Tensor:
        """Accept while u q(x) < p(x), left to right; see `Coins.accept` for shapes."""
        passed = self.uniform(key) * q_x < p_x
        return passed if passed.ndim == 1 else passed.cumprod(-1).bool()

    def draw(self, law: Tensor, key: Key) -> Tensor:
        """Inverse-CDF draw in fp64: the first token whose cumulated mass exceeds u times the total, never one without mass."""
        return draw_by(self.uniform(key), law)

    def race(self, position: Tensor, ids: Tensor | None = None) -> Tensor:
        """See Coins.race. Raises ValueError without ids."""
        if ids is None:
            raise ValueError("race needs the ids whose noise is wanted; pass torch.arange(V) for all.")
        return self._noise(position).exponentials(ids)

    def winners(self, position: Tensor, law: Tensor, count: int = 1) -> Tensor:
        """The first `count` arrivals of the race over `law`, int64 (B, count); see `Coins.winners`."""
        # A row without a decision runs no race: its distribution is not looked at.
        return self._noise(position).winners(law, count, position >= 0)

    def _noise(self, position: Tensor) -> SharedNoise:
        return SharedNoise(mix(self.base ^ (position * STEP + signed(mix_int(PURPOSES["race"] << 32)))))


class KeyedCoins(HashedCoins):
    """Production coins: a counter-based hash of (seed, request, key).

    With `strict` (tests) a key that is used twice for one request raises RuntimeError, unless its round is None (a declared replay).
    """

    def __init__(self, seed: int, requests: Tensor, strict: bool = False):
        self.seed, self.requests, self.strict = seed, requests, strict
        self._used: set[tuple[int, ...]] = set()
        start = signed(mix_int((seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & ((1 << 64) - 1)))
        super().__init__(mix(requests * STEP + start))  # (B,)
        self._host = coins_host.unsigned(self.base) if self.base.device.type == "cpu" else None

    def take(self, requests: Tensor) -> KeyedCoins:
        """Coins of the same seed for another batch of requests (int64 (B,))."""
        return KeyedCoins(self.seed, requests, self.strict)

    def uniform(self, key: Key) -> Tensor:
        """The same bits as `HashedCoins.uniform`, on the CPU without tensors."""
        if self.strict:
            self._register(key)
        if self._host is None:
            return super().uniform(key)
        return coins_host.uniform(self._host, _constant(key), key.position, key.node, key.round)

    def draw(self, law: Tensor, key: Key) -> Tensor:
        """Draw as `HashedCoins.draw` does, without tensor operations where `law` lies on the CPU."""
        return coins_host.draw_by(self.uniform(key), law) if law.device.type == "cpu" else super().draw(law, key)

    def _register(self, key: Key) -> None:
        if key.round is None:
            return
        nodes = key.node.tolist() if isinstance(key.node, Tensor) else [key.node]
        for row, request in enumerate(self.requests.tolist()):
            for column, node in enumerate(nodes):
                position = key.position[row] if key.position.ndim == 1 else key.position[row, column]
                if int(position) < 0:
                    continue
                name = (request, int(position), int(key.round[row]), node, key.draw, PURPOSES[key.purpose])
                if name in self._used:
                    raise RuntimeError(
                        f"coin used twice: request {name[0]}, position {name[1]}, round {name[2]}, node {node}, {key.purpose}."
                    )
                self._used.add(name)


def draw_by(u: Tensor, law: Tensor) -> Tensor:
    """The tokens that coins u fp64 (B,) draw from `law` (B, V), int64 (B,); see `HashedCoins.draw`."""
    mass = law.cumsum(-1, dtype=torch.float64)
    token = torch.searchsorted(mass, u.unsqueeze(-1) * mass[..., -1:], right=True).squeeze(-1)
    token = token.clamp_(max=law.shape[-1] - 1)
    possible = law.gather(-1, token.unsqueeze(-1)).squeeze(-1) > 0
    # A parallel scan may round a massless token's sum past the goal, and u * total may round up to the total: take the heaviest.
    return torch.where(possible, token, law.argmax(-1))


def _constant(key: Key) -> int:
    return signed(mix_int(PURPOSES[key.purpose] << 32 | key.draw))
