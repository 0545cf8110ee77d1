"""A model that reads a window of text once: what its head read there is kept, and later passes cost the head alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Logits:
    """What a call returns, named as in the library."""

    logits: Tensor  # (B, n, V)


@dataclass
class Remembered:
    """Hidden states (n, H) by window, H numbers per token in the model's precision: 2.3 kB at width 576 in fp32.

    They serve where logits are the head's output as it is. Where something follows it (a soft cap, a scale), which the first window
    shows, every pass reads the text anew.
    """

    model: PreTrainedModel
    _known: dict[bytes, Tensor] = field(default_factory=dict)
    _bare: bool | None = None  # whether nothing follows the head; None: nothing read yet

    @property
    def device(self) -> torch.device:
        """Where the model's inputs must be."""
        return self.model.device

    def __call__(self, input_ids: Tensor, use_cache: bool = False) -> Logits:
        """As the model's own call, without a cache: int64 (B, n) -> logits (B, n, V)."""
        hidden = torch.stack([self.hidden(row) for row in input_ids])
        if not self._bare:
            return Logits(self.model(input_ids=input_ids, use_cache=False).logits)
        return Logits(self.model.get_output_embeddings()(hidden))

    def hidden(self, ids: Tensor) -> Tensor:
        """What the head reads after each token of a window: int64 (n,) -> (n, H)."""
        key = ids.cpu().numpy().tobytes()
        if key not in self._known:
            self._known[key] = self._read(ids)
        return self._known[key]

    def logits(self, ids: Tensor, places: Tensor, form: PreTrainedModel | None = None) -> Tensor:
        """Logits (m, V) after the tokens at `places` int64 (m,) of a window int64 (n,).

        `form`: the same network with another head, whose logits they are.
        """
        hidden, shown = self.hidden(ids), form or self.model
        places = places.to(self.device)
        if self._bare:
            return shown.get_output_embeddings()(hidden[places])
        return shown(input_ids=ids.unsqueeze(0).to(self.device), use_cache=False).logits[0, places]

    def _read(self, ids: Tensor) -> Tensor:
        seen: list[Tensor] = []
        head = self.model.get_output_embeddings()
        hook = head.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
        try:
            with torch.no_grad():
                logits = self.model(input_ids=ids.unsqueeze(0).to(self.device), use_cache=False).logits
        finally:
            hook.remove()
        if self._bare is None:
            with torch.no_grad():
                self._bare = torch.equal(head(seen[0]), logits)
        return seen[0][0]
