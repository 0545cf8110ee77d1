"""Compiled code without Dynamo around it.

Before and after what was compiled, Dynamo runs Python that finds the model's weights and checks that it still is what was
compiled: for a small drafter as long as the code itself. Here the weights are noted once, and whether they are still the model's
is asked of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import getitem, is_
from typing import Any

from torch import Tensor, nn
from torch._inductor import compile as inductor
from torch.fx import GraphModule
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks

Code = Callable[..., Sequence[Any]]  # what a compiler makes of a graph: its inputs -> its outputs


class Recorder:
    """A backend of torch.compile that compiles with Inductor and notes each call of what it compiled."""

    def __init__(self, options: dict[str, Any] | None):
        self._options = options
        self.calls: list[tuple[Code, tuple[Any, ...], Sequence[Any]]] = []  # code, inputs, outputs

    def __call__(self, graph: GraphModule, example: list[Any]) -> Code:
        """See torch.compile's `backend`."""
        code = self.compile(graph, example)

        def recorded(*inputs: Any) -> Sequence[Any]:
            outputs = code(*inputs)
            self.calls.append((code, inputs, outputs))
            return outputs

        return recorded

    def compile(self, graph: GraphModule, example: list[Any]) -> Code:
        """By Inductor."""
        code: Any = inductor(graph, example, self._options)
        return code


class Weights:
    """The tensors of a model, and whether they are still the same."""

    def __init__(self, model: nn.Module):
        places: list[tuple[dict[str, Any], str]] = []
        for module in model.modules():
            for table in (module._parameters, module._buffers, module._modules):
                places.extend((table, name) for name in table)
        self._tables, self._names = [table for table, _ in places], [name for _, name in places]
        self._found = [table[name] for table, name in places]
        tensors = [item for item in self._found if isinstance(item, Tensor)]
        self._ids = {id(tensor) for tensor in tensors}
        self._tensors, self._memory = tensors, _memory(tensors)

    def __contains__(self, item: object) -> bool:
        return id(item) in self._ids

    def unchanged(self) -> bool:
        """Whether every module, parameter and buffer is where it was, in the same memory: some 0.1 us each."""
        try:
            same = all(map(is_, map(getitem, self._tables, self._names), self._found))
        except KeyError:
            return False
        return same and _memory(self._tensors) == self._memory


class Hooks:
    """What runs around the modules of a model, or in their place: compiled code knows only of what there was in its day."""

    def __init__(self, model: nn.Module):
        modules = list(model.modules())
        self._tables = [table for m in modules for table in (m._forward_hooks, m._forward_pre_hooks)]
        self._tables += [_global_forward_hooks, _global_forward_pre_hooks]
        self._own = list(map(vars, modules))

    def present(self) -> bool:
        """Whether any module has a forward hook or a `forward` of its own: some 0.1 us each."""
        return any(self._tables) or any("forward" in own for own in self._own)


def _memory(tensors: list[Tensor]) -> tuple[list[int], list[int]]:
    return list(map(Tensor.data_ptr, tensors)), list(map(Tensor.numel, tensors))


class Direct:
    """One compiled call, to be repeated with other tensors in the place of those that it was recorded with."""

    def __init__(self, code: Code, inputs: Sequence[Any], places: Sequence[tuple[int, int]]):
        self._code, self._inputs, self._places = code, list(inputs), places

    @staticmethod
    def of(recorder: Recorder, given: Sequence[Tensor], result: Sequence[Tensor], weights: Weights) -> Direct | None:
        """From what was recorded while `given` led to `result`: None if that was more than one piece of compiled code, or if
        the code reads anything but the given tensors and the model's weights, or gives anything but the result.
        """
        if len(recorder.calls) != 1:
            return None
        code, inputs, outputs = recorder.calls[0]
        if len(outputs) != len(result) or not all(map(is_, outputs, result)):
            return None
        number = {id(tensor): index for index, tensor in enumerate(given)}
        places = [(place, number[id(item)]) for place, item in enumerate(inputs) if id(item) in number]
        if len(places) + sum(item in weights for item in inputs) != len(inputs):
            return None
        fixed = [item if item in weights else None for item in inputs]  # a request's cache is not kept alive here
        return Direct(code, fixed, places)

    def __call__(self, given: Sequence[Tensor]) -> list[Tensor]:
        """The result for tensors of the recorded shapes."""
        inputs = self._inputs.copy()
        for place, index in self._places:
            inputs[place] = given[index]
        return list(self._code(*inputs))
