"""One model and its ONE cache: preallocated, rows of their own length, written by index, masked explicitly.

Rolling back costs nothing: slots behind a row's length are masked and overwritten. transformers' own caches cannot hold rows of
different lengths, and crop by views that the next step copies.
"""

from __future__ import annotations

import inspect
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from drafters.errors import DraftersError
from drafters.pair import context_length

PAD = -1  # a token that a row does not have


class Model(Protocol):
    """What the engine needs of a model. Slots number what a row has been fed, from 0; a chain's slot is its position."""

    lengths: list[int]  # slots in use per row
    capacity: int

    def extend(
        self, tokens: Tensor, parents: Tensor | None = None, counts: list[int] | None = None, logits: bool = True
    ) -> Tensor | None:
        """Feed int64 (B, n) tokens and return the logits after each: fp32 (B, n, V or D), None with `logits` off.

        `parents` int64 (B, n): slot each token follows; None continues each row's last slot as a chain. `counts`: tokens per
        row that are real, the rest (at the end) being PAD; None = all n.
        """
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
        shape = (self.owner.rows, key_states.shape[1], self.owner.capacity + 1)  # the spare slot takes PAD
        self.keys = key_states.new_zeros(*shape, key_states.shape[-1])
        self.values = value_states.new_zeros(*shape, value_states.shape[-1])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new slots and return views of the filled part."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        owner, n = self.owner, key_states.shape[-2]
        if owner.together:
            begin = owner.lengths[0]
            self.keys[:, :, begin : begin + n] = key_states
            self.values[:, :, begin : begin + n] = value_states
        else:
            self.keys[owner.row_index, :, owner.slots] = key_states.transpose(1, 2)
            self.values[owner.row_index, :, owner.slots] = value_states.transpose(1, 2)
        return self.keys[:, :, : owner.width], self.values[:, :, : owner.width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Key length and offset during a forward."""
        return self.owner.width, 0

    def get_seq_length(self) -> int:
        """Slots in use by the longest row."""
        return max(self.owner.lengths)

    def get_max_length(self) -> int:
        """Slots allocated."""
        return self.owner.capacity


class UnsupportedModel(DraftersError):
    """The model cannot roll back, or does not compute the same from this cache; the message says why."""


class TransformersModel:
    """A transformers causal LM with its cache (see Model). Raises UnsupportedModel for models that cannot roll back."""

    def __init__(self, model: PreTrainedModel, rows: int, capacity: int):
        check_supported(model)
        self.model, self.rows, self.capacity = model, rows, capacity
        self.device = model.get_input_embeddings().weight.device
        self.lengths = [0] * rows
        self.together, self.width = True, 0
        self.slots = self.row_index = torch.zeros(0)
        self.cache = Cache(layers=[_Layer(self) for _ in range(_text_config(model).num_hidden_layers)])
        self._tree: _Tree | None = None  # what was fed since the last keep, if it is not a chain
        self._window, self._mask_by_type = _window(model)
        self._keep_argument = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._lowest = torch.finfo(model.dtype).min
        self._context = context_length(model.config)

    @torch.inference_mode()
    def extend(
        self, tokens: Tensor, parents: Tensor | None = None, counts: list[int] | None = None, logits: bool = True
    ) -> Tensor | None:
        """See Model.extend. Raises ValueError if the capacity would be exceeded."""
        n = tokens.shape[1]
        longest = max(self.lengths) + n
        self.width = longest if counts is None else max(map(sum, zip(self.lengths, counts, strict=True)))
        if self.width > self.capacity:
            raise ValueError(f"cache: expected at most {self.capacity} slots, got {self.width}.")
        self.together = len(set(self.lengths)) == 1 and longest <= self.capacity
        begin = torch.tensor(self.lengths, device=self.device)
        self.slots = begin.unsqueeze(-1) + torch.arange(n, device=self.device)  # (B, n)
        self.slots.clamp_(max=self.capacity)
        self.row_index = torch.arange(self.rows, device=self.device).unsqueeze(-1)
        if parents is not None and self._tree is None:
            self._tree = _Tree(begin)
        position = self.slots
        if self._tree is not None:
            position = self._tree.grow(self.slots, self.slots - 1 if parents is None else parents.to(self.device))
        options: dict[str, Any] = {}
        if self._keep_argument and not logits:
            options["logits_to_keep"] = torch.tensor([n - 1], device=self.device)  # 0 would mean "all"
        out = self.model(
            input_ids=tokens.to(self.device).clamp(min=0),
            attention_mask=self._mask(position),
            position_ids=position
            if self._context is None
            else position.clamp(max=self._context - 1),  # PAD may lie beyond
            past_key_values=self.cache,
            use_cache=True,
            **options,
        )
        for row in range(self.rows):
            self.lengths[row] += n if counts is None else counts[row]
        return _full_precision(out.logits) if logits else None

    @torch.inference_mode()
    def keep(self, slots: list[list[int]]) -> None:
        """See Model.keep."""
        for row, kept in enumerate(slots):
            if not kept:
                continue
            begin, count = kept[0], len(kept)
            if kept != list(range(begin, begin + count)):
                source = torch.tensor(kept, device=self.device)
                for layer in self.cache.layers:
                    if layer.is_initialized:  # the right-hand side is a gathered copy, so overlap is safe
                        layer.keys[row, :, begin : begin + count] = layer.keys[row, :, source]
                        layer.values[row, :, begin : begin + count] = layer.values[row, :, source]
            self.lengths[row] = begin + count
        self._tree = None  # what is kept is a chain again

    def _mask(self, position: Tensor) -> Any:
        """Additive float mask (B, 1, n, width): a bool one is silently wrong under eager attention."""
        key = torch.arange(self.width, device=self.device)
        key_position: Tensor = key
        seen = key <= self.slots.unsqueeze(-1)  # (B, n, width)
        if self._tree is not None:
            seen, key_position = self._tree.seen(self.slots, key)

        def additive(allowed: Tensor) -> Tensor:
            zeros = torch.zeros(allowed.shape, dtype=self.model.dtype, device=self.device)
            return zeros.masked_fill_(~allowed, self._lowest).unsqueeze(1)

        if self._window is None:
            return additive(seen)
        near = seen & (key_position > position.unsqueeze(-1) - self._window)
        if not self._mask_by_type:
            return additive(near)
        return {"full_attention": additive(seen), "sliding_attention": additive(near)}


class _Tree:
    """Ancestors and positions of the slots fed since the last keep; below `base` (B,) every row is a chain."""

    def __init__(self, base: Tensor):
        self.base = base.unsqueeze(-1)  # (B, 1)
        self.rows = torch.arange(base.shape[0], device=base.device)
        self.ancestors = torch.zeros(
            base.shape[0], 0, 0, dtype=torch.bool, device=base.device
        )  # (B, P, P), itself included
        self.position = torch.zeros(base.shape[0], 0, dtype=torch.int64, device=base.device)  # (B, P)

    def grow(self, slots: Tensor, parents: Tensor) -> Tensor:
        """Add the slots (B, n), which follow those added before, under the slots `parents`; returns their positions (B, n)."""
        old, n = self.position.shape[1], slots.shape[1]
        self.ancestors = torch.nn.functional.pad(self.ancestors, (0, n, 0, n))
        self.position = torch.nn.functional.pad(self.position, (0, n))
        inner = parents - self.base  # (B, n) index of the parent among the added slots, negative inside the chain
        for column in range(n):  # a node's parent may be in the same block, so one after another
            index, parent = old + column, inner[:, column]
            inside = parent >= 0
            known = self.ancestors[self.rows, parent.clamp(min=0)] & inside.unsqueeze(-1)
            known[:, index] = True
            self.ancestors[:, index] = known
            above = torch.where(inside, self.position[self.rows, parent.clamp(min=0)], parents[:, column])
            self.position[:, index] = above + 1
        return self.position[:, old:]

    def seen(self, slots: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """What each slot (B, n) attends to, bool (B, n, width), and the positions of all keys (B, 1, width)."""
        inner = key - self.base  # (B, width)
        place = inner.clamp(0, self.position.shape[1] - 1)
        chain = inner < 0
        queries = self.ancestors.gather(
            1, (slots - self.base).unsqueeze(-1).expand(-1, -1, self.ancestors.shape[2])
        )  # (B, n, P)
        allowed = queries.gather(2, place.unsqueeze(1).expand(-1, slots.shape[1], -1))
        beyond = inner >= self.position.shape[1]
        seen = chain.unsqueeze(1) | (allowed & ~beyond.unsqueeze(1))
        return seen, torch.where(chain, key, self.position.gather(1, place)).unsqueeze(1)


def _full_precision(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _text_config(model: PreTrainedModel) -> Any:
    return model.config.get_text_config(decoder=True)


def _window(model: PreTrainedModel) -> tuple[int | None, bool]:
    """(window or None, whether the model wants one mask per layer type)."""
    config = _text_config(model)
    types = set(getattr(config, "layer_types", None) or [])
    window = getattr(config, "sliding_window", None)
    if "sliding_attention" in types and window:
        return int(window), "full_attention" in types or model.config.model_type.startswith("gemma")
    if not types and window and getattr(config, "use_sliding_window", True):
        return int(window), False
    return None, False


def check_supported(model: PreTrainedModel) -> None:
    """Raise UnsupportedModel if the model keeps a recurrent state or derives positions from its own counter."""
    name = model.config.model_type
    if getattr(model, "_is_stateful", False):
        raise UnsupportedModel(
            f"{name}: keeps a recurrent state that cannot be rolled back; choose an attention-only model."
        )
    parameters = inspect.signature(model.forward).parameters
    if "position_ids" not in parameters:
        raise UnsupportedModel(
            f"{name}: takes no position_ids, so rows of different lengths cannot be placed; choose another model."
        )
    types = set(getattr(_text_config(model), "layer_types", None) or [])
    unknown = types - {"full_attention", "sliding_attention"}
    if unknown:
        raise UnsupportedModel(
            f"{name}: layer types {sorted(unknown)} cannot be rolled back; choose an attention-only model."
        )


@torch.inference_mode()
def self_test(model: PreTrainedModel, tolerance: float = 2e-3) -> None:
    """Compare logits from this cache, after a roll-back and in rows of different lengths, with uncached ones.

    Raises UnsupportedModel with the difference found. Catches what attributes do not tell: hidden state, ignored positions.
    """
    vocabulary = model.get_input_embeddings().weight.shape[0]
    tokens = (torch.arange(24) * 7919 % vocabulary).view(2, 12).to(model.get_input_embeddings().weight.device)
    session = TransformersModel(model, rows=2, capacity=16)
    session.extend(tokens[:, :6], logits=False)
    session.extend(tokens[:, 9:12])  # to be rolled back
    session.keep([[5], [3]])
    ragged = torch.stack([tokens[0, 6:10], tokens[1, 4:8]])
    got = session.extend(ragged)
    assert got is not None
    for row, path in enumerate((tokens[:1, :10], tokens[1:, :8])):
        expected = _full_precision(model(input_ids=path, use_cache=False).logits[0, -4:])
        scale = expected.abs().max().clamp(min=1.0) * (1.0 if model.dtype in (torch.float32, torch.float64) else 30.0)
        worst = (got[row] - expected).abs().max() / scale
        if not worst <= tolerance:
            raise UnsupportedModel(
                f"{model.config.model_type}: logits from the cache differ from uncached ones by {float(worst):.2g} of their scale "
                f"(expected <= {tolerance}); this architecture cannot be rolled back here. Choose another model."
            )
