"""Coins and draws on the CPU without tensors: the bits of `drafters.rng.coins`, whose few a round are all call overhead."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from drafters.rng.counter_hash import FIRST, MASK, SECOND, STEP, mix_int, signed

# uint64 in arrays: these wrap around silently, numbers do not.
_STEP, _START, _PLACE = (np.array([signed(x)], np.int64).view(np.uint64) for x in (STEP, FIRST, SECOND))
_THIRTY, _TWENTY_SEVEN, _THIRTY_ONE, _ELEVEN = (np.array([bits], np.uint64) for bits in (30, 27, 31, 11))


def uniform(base: np.ndarray, constant: int, position: Tensor, node: int | Tensor, start: Tensor | None) -> Tensor:
    """The coin of every row, fp64 (B,) or (B, M): `HashedCoins.uniform` on the CPU.

    Args:
        base: uint64 (B,) hash of seed and request, see `unsigned`. constant: hash of purpose and draw.
        position, node, start: those of the key; start is its round.
    """
    if len(base) == 1 and position.ndim == 1 and isinstance(node, int):
        return torch.from_numpy(np.array([_one(int(base[0]), constant, int(position), node, start)]))
    if len(base) == 1 and position.ndim == 2 and isinstance(node, Tensor):
        names = zip(position[0].tolist(), node.tolist(), strict=True)
        return torch.from_numpy(np.array([[_one(int(base[0]), constant, *name, start) for name in names]]))
    wide = position.ndim == 2 or isinstance(node, Tensor)
    rows, place = (base[:, None], unsigned(position)) if wide else (base, unsigned(position))
    place = place[:, None] if wide and position.ndim == 1 else place
    bits = _mix(rows ^ (place * _STEP + unsigned(constant)))
    if start is not None:
        begun = unsigned(start)[:, None] if wide else unsigned(start)
        bits = _mix(bits + begun * _START + unsigned(node) * _PLACE + _STEP)
    return torch.from_numpy((bits >> _ELEVEN).astype(np.float64) * 2.0**-53)


def draw_by(u: Tensor, law: Tensor) -> Tensor:
    """`coins.draw_by` row by row: fp64 (B,), (B, V) -> int64 (B,). A fifth of the calls, which on a few rows are all it takes."""
    mass, chances = law.cumsum(-1, dtype=torch.float64).numpy(), law.numpy()
    token = np.empty(len(mass), np.int64)
    for row, (goal, sums) in enumerate(zip(u.numpy() * mass[:, -1], mass, strict=True)):
        found = min(int(sums.searchsorted(goal, side="right")), len(sums) - 1)
        token[row] = found if chances[row, found] > 0 else int(chances[row].argmax())
    return torch.from_numpy(token)


def _one(base: int, constant: int, position: int, node: int, start: Tensor | None) -> float:
    """One coin in Python's integers: a tenth of the time that arrays of one take."""
    bits = mix_int((base ^ (position * STEP + constant)) & MASK)
    if start is not None:
        bits = mix_int((bits + int(start) * FIRST + node * SECOND + STEP) & MASK)
    return (bits >> 11) * 2.0**-53


def _mix(x: np.ndarray) -> np.ndarray:
    """`counter_hash.mix` of uint64."""
    x = (x ^ (x >> _THIRTY)) * _START
    x = (x ^ (x >> _TWENTY_SEVEN)) * _PLACE
    return x ^ (x >> _THIRTY_ONE)


def unsigned(values: Tensor | int) -> np.ndarray:
    """int64 as uint64 with the same bits, at least one dimension."""
    array = values.numpy() if isinstance(values, Tensor) else np.array([values], np.int64)
    return array.view(np.uint64)
