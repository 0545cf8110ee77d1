"""One model and its ONE cache: preallocated, rows of their own length, written by index, masked explicitly.

Rolling back costs nothing: slots behind a row's length are masked and overwritten. transformers' own caches cannot hold rows of
different lengths, and crop by views that the next step copies.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache

from drafters.engine.cache.blocks import block_length
from drafters.engine.cache.layer import IndexedLayer, Place
from drafters.engine.cache.masks import Stairs, TreeMasks, additive
from drafters.engine.cache.supported_models import attention_window, check_supported, unwrapped, window_layers
from drafters.engine.compiled.block_attention import NAME, SHORTEST
from drafters.engine.compiled.compiled_forward import Work, rounded, steps_of
from drafters.engine.compiled.grouped_attention import attending, replaceable
from drafters.models.pair import context_length

PAD = -1  # a token that a row does not have


class Model(Protocol):
    """What the engine needs of a model. Slots number what a row has been fed, from 0; a chain's slot is its position."""

    lengths: list[int]  # slots in use per row
    capacity: int

    def extend(
        self,
        tokens: Tensor,
        parents: Tensor | None = None,
        counts: list[int] | None = None,
        logits: bool = True,
        last: bool = False,
    ) -> Tensor | None:
        """Feed int64 (B, n) tokens and return the logits after each: fp32 (B, n, V or D), None with `logits` off.

        `parents` int64 (B, n): slot each token follows; None continues each row's last slot as a chain. `counts`: tokens per
        row that are real, the rest (at the end) being PAD; None = all n. `last`: only the logits after each row's last real
        token, (B, 1, V or D); those of a row without one mean nothing.
        """
        ...

    def restart(self, row: int, tokens: list[int]) -> None:
        """Empty one row and feed it these tokens, with nothing done to the others: another request takes its place."""
        ...

    def keep(self, slots: list[list[int]]) -> None:
        """Per row, the slots to keep, ascending: everything below the first, then exactly these, moved together; [] changes nothing."""
        ...


class TransformersModel:
    """A transformers causal LM with its cache (see Model). Raises UnsupportedModel for models that cannot roll back."""

    def __init__(self, model: PreTrainedModel, rows: int, capacity: int, compile: bool = False):
        check_supported(model)
        self.model, self.rows, self.capacity = model, rows, capacity
        self.steps = steps_of(model) if compile and rows == 1 and attention_window(model)[0] is None else None
        self.allocated = capacity if self.steps is None else rounded(capacity)  # few shapes to compile for
        self.place = Place(rows, self.allocated)
        self.device = model.get_input_embeddings().weight.device
        self.lengths = [0] * rows
        self.cache = Cache(layers=[IndexedLayer(self.place, windowed) for windowed in window_layers(model)])
        self._tree: TreeMasks | None = None  # what was fed since the last keep, if it is not a chain
        self._window, self._mask_by_type = attention_window(model)
        self._keep_argument = "logits_to_keep" in inspect.signature(unwrapped(model).forward).parameters
        self._numbers = torch.arange(capacity + 1, device=self.device)
        self._block = block_length(model, capacity, self.device)
        self._stairs: Stairs | None = None
        self._context = context_length(model.config)

    @torch.inference_mode()
    def extend(
        self,
        tokens: Tensor,
        parents: Tensor | None = None,
        counts: list[int] | None = None,
        logits: bool = True,
        last: bool = False,
    ) -> Tensor | None:
        """See Model.extend. Raises ValueError if the capacity would be exceeded."""
        n = tokens.shape[1]
        grown = [length + (n if counts is None else counts[row]) for row, length in enumerate(self.lengths)]
        if not logits:
            assert parents is None
            self._read(tokens, self.lengths, max(grown))
            self.lengths = grown
            return None
        position = self._place(self.lengths, n, max(grown), parents)
        columns = _columns(n, counts, last)
        out = self._forward(tokens, position, columns)
        self.lengths = grown
        if not last or counts is None or columns is None or len(columns) == 1:
            return out
        chosen = torch.tensor([columns.index(max(count, 1) - 1) for count in counts], device=self.device)
        return out[torch.arange(self.rows, device=self.device), chosen].unsqueeze(1)

    @torch.inference_mode()
    def perform(self, work: Work, tokens: Tensor, given: Callable[[], list[Tensor]]) -> list[Tensor] | None:
        """Feed int64 (1, n) tokens and what the work drafts behind them, all in one piece of compiled code: its results.

        None, with nothing done, where that is not compiled (yet). `given`: what the work reads behind tokens and slots, asked for
        if it is done.
        """
        n, first = tokens.shape[1], self.lengths[0]
        end = first + n + work.drafted
        fits = end <= self.capacity and self.cache.layers[0].is_initialized and self._tree is None
        if self.steps is None or not fits or not self.steps.ready(n, self.allocated, work):
            return None
        read = [item.to(self.device) for item in (tokens, *given())]
        found = self.steps.run(self.cache, [read[0], self._numbers[first:end].clone(), *read[1:]], work)
        if found is not None:
            self.lengths = [end]
        return found

    @torch.inference_mode()
    def restart(self, row: int, tokens: list[int]) -> None:
        """Empty one row and feed it these tokens, the others untouched; see `Model.restart`."""
        self.lengths[row] = 0
        if tokens:
            self.place.only = slice(row, row + 1)
            try:
                self._read(torch.tensor([tokens]), [0], len(tokens))
            finally:
                self.place.only = None
            self.lengths[row] = len(tokens)

    @torch.inference_mode()
    def keep(self, slots: list[list[int]]) -> None:
        """Move the kept slots of each row together and forget the rest; see `Model.keep`."""
        for row, kept in enumerate(slots):
            if not kept:
                continue
            begin, count = kept[0], len(kept)
            if kept[-1] - begin >= count:  # not in place already
                source = torch.tensor(kept, device=self.device)
                for layer in self.cache.layers:
                    if layer.is_initialized:  # the right-hand side is a gathered copy, so overlap is safe
                        layer.keys[row, :, begin : begin + count] = layer.keys[row, :, source]
                        layer.values[row, :, begin : begin + count] = layer.values[row, :, source]
            self.lengths[row] = begin + count
        self._tree = None  # what is kept is a chain again

    def _read(self, tokens: Tensor, lengths: list[int], width: int) -> None:
        """Feed rows of these lengths chains of (B, n) tokens, up to `width` slots, in blocks: memory stays linear in n."""
        begin, n = 0, tokens.shape[1]
        while begin < n:
            longest = max(lengths) + begin
            end = min(n, begin + self._block)
            moved = [length + begin for length in lengths]
            position = self._place(moved, end - begin, min(longest + end - begin, width), None)
            self._forward(tokens[:, begin:end], position, [end - begin - 1])
            begin = end

    def _place(self, lengths: list[int], n: int, width: int, parents: Tensor | None) -> Tensor:
        """Set where a forward of n tokens per row is written and how far it sees; returns its positions (B or 1, n)."""
        if width > self.capacity:
            raise ValueError(f"cache: expected at most {self.capacity} slots, got {width}.")
        place, first = self.place, lengths[0]
        place.used, place.width = max(lengths), width
        together = first + n <= self.capacity and all(length == first for length in lengths)
        place.begin = first if together else None
        chain = together and self._tree is None and parents is None
        place.near = max(0, first - self._window + 1) if chain and self._window is not None else 0
        if chain:
            place.slots = self._numbers[first : first + n].unsqueeze(0)
            return place.slots
        begin = torch.tensor(lengths, device=self.device)
        place.slots = (begin.unsqueeze(-1) + self._numbers[:n]).clamp_(max=self.capacity)  # (B, n)
        place.row_index = torch.arange(len(lengths), device=self.device).unsqueeze(-1)
        if parents is not None and self._tree is None:
            self._tree = TreeMasks(begin)
        if self._tree is None:
            return place.slots
        return self._tree.grow(place.slots, place.slots - 1 if parents is None else parents.to(self.device))

    def _forward(self, tokens: Tensor, position: Tensor, columns: list[int] | None) -> Tensor:
        """Logits fp32 (B, len(columns), V or D) of the tokens in these places of the block, None for all n."""
        if (
            self.steps is not None
            and self._simple(tokens.shape[1])
            and self.steps.ready(tokens.shape[1], self.allocated)
        ):
            # Copies: views into longer arrays would be more shapes to compile for.
            found = self.steps.run(self.cache, [tokens.to(self.device).clamp(min=0), self.place.slots[0].clone()])
            if found is not None:
                logits = found[0]
                wanted = logits if columns is None or len(columns) == tokens.shape[1] else logits[:, columns]
                return _full_precision(wanted)
        options: dict[str, Any] = {}
        if columns is not None and self._keep_argument:  # never 0, which would mean "all"
            # Gathered: of a slice, whose strides no product of matrices folds, torch multiplies by a copy of the whole head in bf16.
            options["logits_to_keep"] = torch.tensor(columns, device=self.device)
        rows = tokens.shape[0]
        if self._context is not None and (self.place.begin is None or self.place.width > self._context):
            position = position.clamp(max=self._context - 1)  # PAD may lie beyond
        with attending(self._fused if tokens.shape[1] >= SHORTEST else [], NAME):
            out = self.model(
                input_ids=tokens.to(self.device).clamp(min=0),
                attention_mask=self._mask(position, tokens.shape[1]),
                position_ids=position.expand(rows, -1),
                past_key_values=self.cache,
                use_cache=True,
                **options,
            )
        logits = out.logits if columns is None or self._keep_argument else out.logits[:, columns]
        return _full_precision(logits)

    def _simple(self, n: int) -> bool:
        """A chain without PAD, on a cache that a prompt has filled."""
        filled = self.cache.layers[0].is_initialized and self._tree is None
        return filled and self.place.begin is not None and self.place.width == self.place.begin + n

    def _mask(self, position: Tensor, n: int) -> Any:
        """Additive mask (B or 1, 1, n, slots seen), or one per layer type."""
        dtype, place = self.model.dtype, self.place
        chain = self._chain(n)
        if chain is not None and self._window is None:
            return chain
        near = 0 if self._mask_by_type else place.near
        key = self._numbers[near : place.width]
        key_position: Tensor = key
        seen = key <= place.slots.unsqueeze(-1)  # (B, n, slots seen)
        if self._tree is not None:
            seen, key_position = self._tree.seen(place.slots, key)
        if self._window is None:
            return additive(seen, dtype)
        inside = seen & (key_position > position.unsqueeze(-1) - self._window)
        if not self._mask_by_type:
            return additive(inside, dtype)
        full = additive(seen, dtype) if chain is None else chain
        return {"full_attention": full, "sliding_attention": additive(inside[..., place.near :], dtype)}

    def _chain(self, n: int) -> Tensor | None:
        """The mask of n tokens without PAD that all rows append at one slot, of an array made once; None for other blocks."""
        place, longest = self.place, max(SHORTEST, self._block)
        windows_only = self._window is not None and not self._mask_by_type
        if (
            self._tree is not None
            or place.begin is None
            or place.width != place.begin + n
            or n > longest
            or windows_only
        ):
            return None
        self._stairs = self._stairs or Stairs(self.capacity, longest, self.model.dtype, self.device)
        return self._stairs.mask(place.begin, n)

    @cached_property
    def _fused(self) -> list[PretrainedConfig]:
        # A wrapper may have compiled the attention that it found, or keep its own.
        return replaceable(self.model) if isinstance(self.model, PreTrainedModel) else []


def _columns(n: int, counts: list[int] | None, last: bool) -> list[int] | None:
    """Tokens of a block whose logits are needed, ascending; None: all n."""
    if not last:
        return None
    if counts is None:
        return [n - 1]
    return sorted({max(count, 1) - 1 for count in counts})


def _full_precision(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
