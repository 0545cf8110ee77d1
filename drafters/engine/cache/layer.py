"""One layer's keys and values, preallocated, and where the forward in progress writes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin


@dataclass
class Place:
    """Where the forward in progress writes, and how far it sees; one for all layers of a cache."""

    rows: int
    allocated: int  # slots per row, less the spare one
    only: slice | None = None  # its rows; None: all
    begin: int | None = 0  # its first slot, where all rows have the same
    used: int = 0  # slots that the longest row had before it
    width: int = 0  # slots seen
    near: int = 0  # the first of them that a layer with a window sees
    slots: Tensor = field(default_factory=lambda: torch.zeros(0))  # int64 (B or 1, n) to be written
    row_index: Tensor = field(default_factory=lambda: torch.zeros(0))  # int64 (B, 1)


class IndexedLayer(CacheLayerMixin):
    """Keys and values (B, heads, slots, size) of one attention layer; where to write is the owner's decision."""

    is_sliding = False
    is_croppable = False  # the owner rolls back, nobody else

    def __init__(self, place: Place, windowed: bool):
        super().__init__()
        self.place, self.windowed = place, windowed

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate on first use: only then are head count, head size and dtype known."""
        shape = (self.place.rows, key_states.shape[1], self.place.allocated + 1)  # the spare slot takes PAD
        self.keys = key_states.new_zeros(*shape, key_states.shape[-1])
        self.values = value_states.new_zeros(*shape, value_states.shape[-1])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new slots and return views of what this layer sees."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        place, n = self.place, key_states.shape[-2]
        rows = slice(None) if place.only is None else place.only
        keys, values = self.keys[rows], self.values[rows]
        if place.begin is not None:
            keys[:, :, place.begin : place.begin + n] = key_states
            values[:, :, place.begin : place.begin + n] = value_states
        else:
            keys[place.row_index, :, place.slots] = key_states.transpose(1, 2)
            values[place.row_index, :, place.slots] = value_states.transpose(1, 2)
        seen = slice(place.near if self.windowed else 0, place.width)
        return keys[:, :, seen], values[:, :, seen]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Key length and offset during a forward."""
        return self.place.width, 0

    def get_seq_length(self) -> int:
        """Slots that the longest row had in use before the forward in progress."""
        return self.place.used

    def get_max_length(self) -> int:
        """The number of slots that are allocated."""
        return self.place.allocated
