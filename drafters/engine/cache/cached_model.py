"""One model and its ONE cache: preallocated, rows of their own length, written by index, masked explicitly.

Rolling back costs nothing: slots behind a row's length are masked and overwritten. transformers' own caches cannot hold rows of
different lengths, and crop by views that the next step copies.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from drafters.engine.cache.masks import Stairs, TreeMasks, additive
from drafters.engine.cache.supported_models import attention_window, check_supported, text_config, unwrapped
from drafters.engine.compiled.compiled_forward import Work, rounded, steps_of
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


class _Layer(CacheLayerMixin):
    """Keys and values (B, heads, capacity, size) of one attention layer; where to write is the owner's decision."""

    is_sliding = False
    is_croppable = False  # the owner rolls back, nobody else

    def __init__(self, owner: TransformersModel):
        super().__init__()
        self.owner = owner

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate on first use: only then are head count, head size and dtype known."""
        shape = (self.owner.rows, key_states.shape[1], self.owner.allocated + 1)  # the spare slot takes PAD
        self.keys = key_states.new_zeros(*shape, key_states.shape[-1])
        self.values = value_states.new_zeros(*shape, value_states.shape[-1])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new slots and return views of the filled part."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        owner, n = self.owner, key_states.shape[-2]
        keys, values = (
            (self.keys, self.values) if owner.only is None else (self.keys[owner.only], self.values[owner.only])
        )
        if owner.begin is not None:
            keys[:, :, owner.begin : owner.begin + n] = key_states
            values[:, :, owner.begin : owner.begin + n] = value_states
        else:
            keys[owner.row_index, :, owner.slots] = key_states.transpose(1, 2)
            values[owner.row_index, :, owner.slots] = value_states.transpose(1, 2)
        return keys[:, :, : owner.width], values[:, :, : owner.width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Key length and offset during a forward."""
        return self.owner.width, 0

    def get_seq_length(self) -> int:
        """Slots in use by the longest row."""
        return max(self.owner.lengths)

    def get_max_length(self) -> int:
        """Slots allocated."""
        return self.owner.capacity


class TransformersModel:
    """A transformers causal LM with its cache (see Model). Raises UnsupportedModel for models that cannot roll back."""

    def __init__(self, model: PreTrainedModel, rows: int, capacity: int, compile: bool = False):
        check_supported(model)
        self.model, self.rows, self.capacity = model, rows, capacity
        self.steps = steps_of(model) if compile and rows == 1 and attention_window(model)[0] is None else None
        self.allocated = capacity if self.steps is None else rounded(capacity)  # few shapes to compile for
        self.device = model.get_input_embeddings().weight.device
        self.lengths = [0] * rows
        # Of the forward in progress: its rows (None: all), its first slot where all have the same, the slots seen.
        self.only: slice | None = None
        self.begin: int | None = 0
        self.width = 0
        self.slots = self.row_index = torch.zeros(0)
        self.cache = Cache(layers=[_Layer(self) for _ in range(text_config(model).num_hidden_layers)])
        self._tree: TreeMasks | None = None  # what was fed since the last keep, if it is not a chain
        self._window, self._mask_by_type = attention_window(model)
        self._keep_argument = "logits_to_keep" in inspect.signature(unwrapped(model).forward).parameters
        self._numbers = torch.arange(capacity + 1, device=self.device)
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
        position = self._place(self.lengths, n, max(grown), parents)
        columns = _columns(n, counts, logits, last)
        out = self._forward(tokens, position, columns)
        self.lengths = grown
        if not logits:
            return None
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
            self.only = slice(row, row + 1)
            try:
                position = self._place([0], len(tokens), len(tokens), None)
                self._forward(torch.tensor([tokens]), position, [len(tokens) - 1])
            finally:
                self.only = None
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

    def _place(self, lengths: list[int], n: int, width: int, parents: Tensor | None) -> Tensor:
        """Set where a forward of n tokens per row is written and how far it sees; returns its positions (B or 1, n)."""
        if width > self.capacity:
            raise ValueError(f"cache: expected at most {self.capacity} slots, got {width}.")
        self.width, first = width, lengths[0]
        together = first + n <= self.capacity and all(length == first for length in lengths)
        self.begin = first if together else None
        if together and self._tree is None and parents is None:
            self.slots = self._numbers[first : first + n].unsqueeze(0)
            return self.slots
        begin = torch.tensor(lengths, device=self.device)
        self.slots = (begin.unsqueeze(-1) + self._numbers[:n]).clamp_(max=self.capacity)  # (B, n)
        self.row_index = torch.arange(len(lengths), device=self.device).unsqueeze(-1)
        if parents is not None and self._tree is None:
            self._tree = TreeMasks(begin)
        if self._tree is None:
            return self.slots
        return self._tree.grow(self.slots, self.slots - 1 if parents is None else parents.to(self.device))

    def _forward(self, tokens: Tensor, position: Tensor, columns: list[int] | None) -> Tensor:
        """Logits fp32 (B, len(columns), V or D) of the tokens in these places of the block, None for all n."""
        if (
            self.steps is not None
            and self._simple(tokens.shape[1])
            and self.steps.ready(tokens.shape[1], self.allocated)
        ):
            # Copies: views into longer arrays would be more shapes to compile for.
            found = self.steps.run(self.cache, [tokens.to(self.device).clamp(min=0), self.slots[0].clone()])
            if found is not None:
                logits = found[0]
                wanted = logits if columns is None or len(columns) == tokens.shape[1] else logits[:, columns]
                return _full_precision(wanted)
        options: dict[str, Any] = {}
        if columns is not None and self._keep_argument:  # never 0, which would mean "all"
            last = columns == [tokens.shape[1] - 1]  # a number means so many at the end: a slice, no gather
            options["logits_to_keep"] = 1 if last else torch.tensor(columns, device=self.device)
        rows = tokens.shape[0]
        if self._context is not None and (self.begin is None or self.width > self._context):
            position = position.clamp(max=self._context - 1)  # PAD may lie beyond
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
        return filled and self.begin is not None and self.width == self.begin + n

    def _mask(self, position: Tensor, n: int) -> Any:
        """Additive mask (B or 1, 1, n, width), or one per layer type."""
        dtype = self.model.dtype
        plain = self._tree is None and self._window is None and self.begin is not None
        if plain and n <= Stairs.LONGEST and self.width == (self.begin or 0) + n:
            self._stairs = self._stairs or Stairs(self.capacity, dtype, self.device)
            return self._stairs.mask(self.width - n, n)
        key = self._numbers[: self.width]
        key_position: Tensor = key
        seen = key <= self.slots.unsqueeze(-1)  # (B, n, width)
        if self._tree is not None:
            seen, key_position = self._tree.seen(self.slots, key)
        if self._window is None:
            return additive(seen, dtype)
        near = seen & (key_position > position.unsqueeze(-1) - self._window)
        if not self._mask_by_type:
            return additive(near, dtype)
        return {"full_attention": additive(seen, dtype), "sliding_attention": additive(near, dtype)}


def _columns(n: int, counts: list[int] | None, logits: bool, last: bool) -> list[int] | None:
    """Tokens of a block whose logits are needed, ascending; None: all n."""
    if logits and not last:
        return None
    if counts is None or not logits:
        return [n - 1]
    return sorted({max(count, 1) - 1 for count in counts})


def _full_precision(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
