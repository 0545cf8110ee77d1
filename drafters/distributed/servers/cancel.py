"""Abandons a forward between two layers: a running kernel cannot be stopped, but the next layer need not begin."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from drafters.engine.transformers_pair import Pair, TransformersPair


class _Work(threading.local):
    alive: Callable[[], bool] | None = None


_local = _Work()


class Abandoned(Exception):
    """The work of this thread is over; whoever began it catches this."""


@contextmanager
def abandoning(alive: Callable[[], bool]) -> Iterator[None]:
    """Inside the block `checkpoint` raises Abandoned, in this thread alone, once `alive` returns False."""
    _local.alive = alive
    try:
        yield
    finally:
        _local.alive = None


def checkpoint() -> None:
    """Raise Abandoned if the work that this thread does is over."""
    if _local.alive is not None and not _local.alive():
        raise Abandoned


@contextmanager
def checked_layers(pair: Pair) -> Iterator[None]:
    """Within: transformers models look before every decoder layer (the models of other pairs look for themselves)."""
    models = (pair.target, pair.drafter) if isinstance(pair, TransformersPair) else ()
    hooks = [
        layer.register_forward_pre_hook(lambda module, inputs: checkpoint())
        for model in models
        for layer in _layers(model)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _layers(model: nn.Module) -> list[nn.Module]:
    """The decoder layers: the longest list of modules of one type that the model holds."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(map(list, lists), key=len, default=[])
