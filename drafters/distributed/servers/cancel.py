"""Leaving a forward half-way: a kernel cannot be stopped, but the next layer need not begin."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_local = threading.local()


class Abandoned(Exception):
    """The work of this thread is over; whoever began it catches this."""


@contextmanager
def abandoning(alive: Callable[[], bool]) -> Iterator[None]:
    """Within: `checkpoint` raises Abandoned once `alive` says no. Of this thread alone."""
    _local.alive = alive
    try:
        yield
    finally:
        _local.alive = None


def checkpoint() -> None:
    """Raise Abandoned if the work that this thread does is over."""
    alive = getattr(_local, "alive", None)
    if alive is not None and not alive():
        raise Abandoned


@contextmanager
def checked_layers(*models: Any) -> Iterator[None]:
    """Within: these models look before every decoder layer (models that are no torch modules look for themselves)."""
    hooks = [
        layer.register_forward_pre_hook(lambda module, inputs: checkpoint())
        for model in models
        if isinstance(model, nn.Module)
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
