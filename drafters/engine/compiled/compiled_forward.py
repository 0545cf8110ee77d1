"""Compiled forwards for the shapes that recur: B = 1, a fixed number of tokens, a cache of fixed size (torch.compile, Inductor).

Most of a small model's forward is calls into it, not arithmetic; compiled it takes about half the time. Compiling takes tens
of seconds per number of tokens, so that only what comes often is compiled, and everything else (prompts, trees, batches, the last
rounds of a text) runs as it is, in the same cache.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from drafters.engine.compiled.grouped_attention import NAME, attending, configs_of, replaceable
from drafters.engine.compiled.without_dynamo import Direct, Hooks, Recorder, Weights

HOT = 8  # times that a number of tokens has come before it is compiled
RARE = 32  # and one in so many forwards of late must have been of that number
LATE = 1024  # forwards after which earlier ones count half
LONGEST = 16  # tokens; longer ones are prompts
SMALLEST = 256  # slots of a cache
PIECES = 512  # of compiled code in a process
_known: WeakKeyDictionary[PreTrainedModel, Steps] = WeakKeyDictionary()
_log = logging.getLogger(__name__)


def rounded(capacity: int) -> int:
    """Slots to allocate: the next power of two, so that requests of many lengths share a shape."""
    return max(SMALLEST, 1 << (capacity - 1).bit_length())


def steps_of(model: PreTrainedModel) -> Steps:
    """The compiled forwards of a model, which outlive its caches."""
    if model not in _known:
        _known[model] = Steps(model)
    return _known[model]


class Steps:
    """One model's compiled forwards, one per number of tokens and size of cache."""

    def __init__(self, model: PreTrainedModel):
        self._model = ref(model)  # weak, as the table that holds this is
        self._seen: Counter[Any] = Counter()
        self._chosen: set[Any] = set()  # to be compiled, or compiled already
        self._direct: dict[Any, Direct | None] = {}  # None: Dynamo is needed
        self._weights, self._hooks = Weights(model), Hooks(model)
        self._configs = configs_of(model)
        self._broken = self._told = False
        self._attending = replaceable(model)
        # One table of compiled code serves all models and shapes; past the usual 8 of them it would silently stop compiling.
        limits = torch._dynamo.config
        limits.recompile_limit = max(limits.recompile_limit, PIECES)
        limits.accumulated_recompile_limit = max(limits.accumulated_recompile_limit, PIECES)
        # Of Inductor's Python wrapper, a small model's CPU forward spends a fifth on checks and views between the kernels. Built apart
        # from them (cpp_wrapper_build_separate) the C++ one compiles in half the time, and verification takes 1.5 times as long.
        self._recorder = Recorder({"cpp_wrapper": True} if model.device.type == "cpu" else None)
        self._forward = torch.compile(_forward, dynamic=False, backend=self._recorder)

    def ready(self, n: int, capacity: int, work: Work | None = None) -> bool:
        """Whether a forward of n tokens, or work that begins with it, is, or is now to be, compiled."""
        if self._broken or n > LONGEST or self._surrounded():
            return False
        name = n, capacity, None if work is None else work.key
        if self._often(name, 1 if work is None else work.forwards):
            self._chosen.add(name)
        return name in self._chosen

    def _often(self, name: Any, forwards: int) -> bool:
        """Count them, and say whether it comes often enough to be compiled."""
        self._seen[name] += forwards
        total = self._seen.total()
        often = self._seen[name] > HOT and self._seen[name] * RARE >= total
        if total >= LATE:
            self._seen = Counter({known: times // 2 for known, times in self._seen.items()})
        return often

    def run(self, cache: Cache, given: list[Tensor], work: Work | None = None) -> list[Tensor] | None:
        """What the work makes of tokens int64 (1, n), slots int64 (n or more,) and what else it is given.

        Without any work [logits (1, n, V)]. None, for good, where compiling fails, and while a module has hooks.
        """
        model = self._model()
        assert model is not None
        if not self._weights.unchanged():  # moved, cast, pruned, adapted
            self._weights, self._hooks, self._direct = Weights(model), Hooks(model), {}
            self._configs = configs_of(model)
            if self._surrounded():
                return None
        keys = cache.layers[0].keys
        name = None if work is None else work.key
        surroundings = model.training, _autocast(model.device.type), tuple(map(_attention, self._configs))
        key = (given[0].shape[1], keys.shape, keys.dtype, keys.device, surroundings, name)
        count = len(given)
        given = [*given, *([] if work is None else work.tensors)]
        for layer in cache.layers:
            given += (layer.keys, layer.values)
        try:
            direct = self._direct.get(key)
            return self._traced(model, key, given, work, count) if direct is None else direct(given)
        except Exception as error:  # whatever Dynamo, Inductor or the C++ compiler raise
            self._broken = True
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            _log.warning("compiling failed, going on without (compile=False saves the attempt): %s", reason[:300])
            return None

    def _surrounded(self) -> bool:
        """Whether anything runs around the modules: neither Dynamo's guards nor code without them would notice it."""
        found = self._hooks.present()
        if found and not self._told:
            _log.warning(
                "the model has forward hooks or replaced forwards: it is run without compiled code while it has."
            )
            self._told = True
        return found

    def _traced(
        self, model: PreTrainedModel, key: Any, given: list[Tensor], work: Work | None, count: int
    ) -> list[Tensor]:
        """Through Dynamo, which compiles when it must."""
        self._recorder.calls.clear()
        own = given[count if work is None else count + len(work.tensors) :]
        layers = [Layer(*pair) for pair in zip(own[::2], own[1::2], strict=True)]
        with attending(self._attending, NAME):
            result = self._forward(model, work, given[:count], layers)
        if key not in self._direct:
            self._direct[key] = Direct.of(self._recorder, given, result, self._weights)
        self._recorder.calls.clear()
        return result


def _autocast(device: str) -> torch.dtype | None:
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def _attention(config: PretrainedConfig) -> str | None:
    return config._attn_implementation


class Layer(CacheLayerMixin):
    """A layer of the engine's cache with nothing in it that changes from step to step but tensors."""

    is_sliding = False

    slots: Tensor  # int64 (n,) to be written

    def __init__(self, keys: Tensor, values: Tensor):
        super().__init__()
        self.keys, self.values, self.is_initialized = keys, values, True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: the engine's layer was filled by the prompt."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the slots, and show all of the cache: the mask hides the rest."""
        self.keys.index_copy_(2, self.slots, key_states)
        self.values.index_copy_(2, self.slots, value_states)
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The key length in slots, all of the capacity, and the offset 0."""
        return self.keys.shape[2], 0

    def get_seq_length(self) -> int:
        """Not asked for: positions are given."""
        return 0

    def get_max_length(self) -> int:
        """The number of slots allocated per row."""
        return self.keys.shape[2]


class Work(Protocol):
    """What is compiled beside a model's forward."""

    @property
    def key(self) -> Any:
        """What differs between two works that need code of their own; hashable."""
        ...

    @property
    def tensors(self) -> Sequence[Tensor]:
        """The tensors it reads beside the model's and those it is given."""
        ...

    @property
    def drafted(self) -> int:
        """How many tokens it feeds behind the given ones."""
        ...

    @property
    def forwards(self) -> int:
        """How many forwards of the model it runs in one piece."""
        ...

    def __call__(self, model: Any, given: list[Tensor], layers: list[Layer]) -> list[Tensor]:
        """Run the work; torch.compile traces this call, whose forwards are made by `read`."""
        ...


def _forward(model: PreTrainedModel, work: Work | None, given: list[Tensor], layers: list[Layer]) -> list[Tensor]:
    return [read(model, given[0], given[1], layers)] if work is None else work(model, given, layers)


def read(model: PreTrainedModel, tokens: Tensor, slots: Tensor, layers: list[Layer]) -> Tensor:
    """Logits (1, n, V) of tokens int64 (1, n) written to `slots` int64 (n,)."""
    for layer in layers:
        layer.slots = slots
    logits = _logits(model, tokens, slots, layers)
    for layer in layers:
        del layer.slots  # what is left on an object would be one more output
    return logits


def _logits(model: PreTrainedModel, tokens: Tensor, slots: Tensor, layers: list[Layer]) -> Tensor:
    places = torch.arange(layers[0].keys.shape[2], device=slots.device)
    hidden = places > slots.unsqueeze(-1)  # (n, capacity)
    mask = torch.zeros(hidden.shape, dtype=model.dtype, device=slots.device)
    mask = mask.masked_fill(hidden, torch.finfo(model.dtype).min)
    return model(
        input_ids=tokens,
        attention_mask=mask[None, None],
        position_ids=slots.unsqueeze(0),
        past_key_values=Cache(layers=layers),
        use_cache=True,
    ).logits
