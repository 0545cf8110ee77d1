"""Which pruned tokens a tail stands in for: all of them, or the likeliest, so that the same bytes buy a higher rank."""

from __future__ import annotations

from math import ceil

from torch import Tensor


def likeliest(ids: Tensor, mass: Tensor, share: float) -> Tensor:
    """The share of `ids` int64 (O,) that the target says most: ascending, int64 (ceil(share O),). Equal ones: lower ids first.

    Args:
        mass: (V,) sum of the target's laws over some text, by id. share: in (0, 1].
    """
    order = mass[ids].argsort(descending=True, stable=True)
    return ids[order[: ceil(share * len(ids))]].sort().values


def named(rank: int, share: float) -> str:
    """What a training-free tail is called in tables: tail_free_12, or tail_free_24_top40 of the likeliest 40 %."""
    return f"tail_free_{rank}" + ("" if share == 1 else f"_top{round(100 * share)}")
