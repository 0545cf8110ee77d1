"""A model that can be asked about any text: its cache is cut back to what the text and the last one have in common, by ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from drafters.engine.cache.cached_model import Model


class CachedText:
    """One request's text in one model.

    Args:
        open_model: makes the model with an empty cache.
    """

    def __init__(self, open_model: Callable[[], Model]):
        self._open = open_model
        self._model = open_model()
        self.held: list[int] = []  # ids in the cache

    def read(self, ids: Sequence[int], rows: int) -> Tensor:
        """Logits after each of the last `rows` ids: (1, rows, V). Only what the cache lacks is computed.

        Raises ValueError for a text of fewer than `rows` ids.
        """
        if not 1 <= rows <= len(ids):
            raise ValueError(f"expected a text of at least {rows} ids and at least one row, got {len(ids)} ids.")
        self.cut(min(self._common(ids), len(ids) - rows))
        new = torch.tensor([list(ids[len(self.held) :])])
        logits = self._model.extend(new)
        assert logits is not None
        self.held = list(ids)
        return logits[:, -rows:]

    def prefill(self, ids: Sequence[int]) -> None:
        """Take the text into the cache."""
        self.cut(self._common(ids))
        if len(ids) > len(self.held):
            self._model.extend(torch.tensor([list(ids[len(self.held) :])]), logits=False)
            self.held = list(ids)

    def cut(self, length: int) -> None:
        """Keep the first `length` ids."""
        if length >= len(self.held):
            return
        if length:
            self._model.keep([[length - 1]])
        else:  # a cache cannot be cut to nothing
            self._model = self._open()
        del self.held[length:]

    def _common(self, ids: Sequence[int]) -> int:
        pairs = zip(self.held, ids, strict=False)
        return next((place for place, (held, new) in enumerate(pairs) if held != new), min(len(self.held), len(ids)))
