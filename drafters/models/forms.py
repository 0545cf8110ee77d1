"""The forms of one pruned network: shells around the same modules and weights that differ in their heads alone."""

import copy
from collections import OrderedDict

from torch import Tensor, nn
from transformers import PreTrainedModel

from drafters.models.heads import PrunedHead, TailHead
from drafters.models.tail import Tail


def short_form(model: PreTrainedModel) -> PreTrainedModel:
    """The D-column form of a pruned model, for the engine.

    Raises TypeError for a model whose head sits below its top level: two shells could not differ in it.
    """
    return _shell(model, _rows(model))


def tail_form(model: PreTrainedModel, tail: Tail) -> PreTrainedModel:
    """The form with a tail, for the engine: V columns, the kept ones exact, those of ``tail.ids`` approximated.

    Raises TypeError as `short_form` does, PruneError for a tail that does not fit the head.
    """
    return _shell(model, TailHead(_rows(model), tail))


def pruned_form(model: PreTrainedModel, kept: Tensor) -> PreTrainedModel:
    """A D-column form of an unpruned model, int64 (D,) ascending ids; the model itself stays whole.

    Raises TypeError for a model without a linear head at its top level, PruneError for ids outside its rows.
    """
    own = model.get_output_embeddings()
    if not isinstance(own, nn.Linear) or own not in model._modules.values():
        raise TypeError(f"{type(model).__name__} must have a linear head at its top level, got {type(own).__name__}")
    rows = kept.to(own.weight.device)
    bias = None if own.bias is None else own.bias.detach()[rows]
    head = PrunedHead(own.weight.detach()[rows], bias, rows, len(own.weight)).requires_grad_(False)
    return _shell(model, head)


def _rows(model: PreTrainedModel) -> PrunedHead:
    """A head of D columns that holds the very Parameters of the model's, so that moving one form moves the other."""
    own = model.get_output_embeddings()
    if not isinstance(own, PrunedHead) or own not in model._modules.values():
        raise TypeError(f"{type(model).__name__} must have a PrunedHead at its top level, got {type(own).__name__}")
    head = PrunedHead(own.weight, own.bias, own.kept, own.vocabulary, scatter=False)
    head.weight, head.bias = own.weight, own.bias
    return head


def _shell(model: PreTrainedModel, head: nn.Module) -> PreTrainedModel:
    shell = copy.copy(model)
    shell.__dict__["_modules"] = dict(model._modules)
    # The wide form's hooks put -inf back where a soft cap made it finite; the engine's forms hold no -inf.
    shell.__dict__["_forward_hooks"] = OrderedDict()
    shell.set_output_embeddings(head)
    return shell
