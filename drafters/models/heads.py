"""Output heads of a drafter that predicts a part of its vocabulary, and the rows of its input embedding."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from drafters.errors import DraftersError
from drafters.models.tail import Tail


class PruneError(DraftersError):
    """A model, a list of kept ids or a folder that cannot be pruned or loaded as pruned."""


class PrunedHead(nn.Module):
    """The kept rows of a linear head: hidden states (..., H) to logits of the kept tokens.

    With ``scatter`` False the logits are (..., D), column d is token ``kept[d]``: what the engine reads. With True they
    are (..., V), -inf elsewhere: what code that knows nothing of pruning reads (transformers' generate).
    The parameters are named as those of `nn.Linear`, so a checkpoint holds ``lm_head.weight`` with D rows.
    """

    kept: Tensor  # int64 (D,) ascending ids

    def __init__(self, weight: Tensor, bias: Tensor | None, kept: Tensor, vocabulary: int, scatter: bool = False):
        """``weight`` (D, H), ``bias`` (D,) or None; ids outside [0, V) or out of order raise PruneError."""
        super().__init__()
        check_kept(kept, vocabulary)
        if weight.ndim != 2 or len(weight) != len(kept) or (bias is not None and bias.shape != kept.shape):
            raise PruneError(
                f"the head must have D={len(kept)} rows, got weight {tuple(weight.shape)} and "
                f"bias {None if bias is None else tuple(bias.shape)}"
            )
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.register_buffer("kept", kept, persistent=False)
        self.vocabulary = vocabulary
        self.scatter = scatter

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., H) to (..., D), or (..., V) with ``scatter``."""
        logits = nn.functional.linear(hidden, self.weight, self.bias)
        return self.spread(logits) if self.scatter else logits

    def spread(self, logits: Tensor) -> Tensor:
        """(..., D) to (..., V), -inf where nothing was kept."""
        full = logits.new_full((*logits.shape[:-1], self.vocabulary), -torch.inf)
        return full.index_copy_(-1, self.kept, logits)

    def extra_repr(self) -> str:
        """The sizes that print(model) shows: tokens kept, vocabulary, and whether logits are scattered."""
        return f"kept={len(self.kept)}, vocabulary={self.vocabulary}, scatter={self.scatter}"


class TailHead(nn.Module):
    """A head of V columns: the kept rows exact, the pruned ones as a low-rank tail says, one softmax over both.

    A token that is neither kept nor in the tail (padding, and what a partial tail leaves out) is -inf: the drafter never says
    it, which costs acceptance and no losslessness. Reads D H + R (O + H) weights in place of V H.
    """

    order: Tensor  # int64 (D + O,) the id of each computed column

    def __init__(self, head: PrunedHead, tail: Tail):
        """Shares the weights of ``head``; raises PruneError for a tail of other ids or another hidden size."""
        super().__init__()
        self.head, self.vocabulary = head, head.vocabulary
        check_kept(tail.ids, self.vocabulary)
        if tail.down.shape[1] != head.weight.shape[1] or bool(torch.isin(tail.ids, head.kept.cpu()).any()):
            raise PruneError(
                f"a tail of pruned ids for hidden states of size {head.weight.shape[1]} is expected, got one for size "
                f"{tail.down.shape[1]} with {int(torch.isin(tail.ids, head.kept.cpu()).sum())} kept ids; run stage=tail again"
            )
        bias = torch.zeros(len(tail.ids)) if tail.bias is None else tail.bias
        self.down, self.up, self.tail_bias = (
            nn.Parameter(part.to(head.weight, copy=True), requires_grad=False)  # training it must not train the Tail
            for part in (tail.down, tail.up, bias)
        )
        ids = tail.ids.to(head.kept.device)
        self.register_buffer("order", torch.cat([head.kept, ids]), persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., H) to (..., V)."""
        tail = nn.functional.linear(nn.functional.linear(hidden, self.down), self.up, self.tail_bias)
        computed = torch.cat([self.head(hidden), tail], -1)
        full = computed.new_full((*computed.shape[:-1], self.vocabulary), -torch.inf)
        return full.index_copy(-1, self.order, computed)

    @property
    def weight(self) -> Tensor:
        """The kept rows (D, H)."""
        return self.head.weight


def check_kept(kept: Tensor, vocabulary: int) -> None:
    """Raise PruneError unless ``kept`` is int64 (D,), D >= 1, strictly ascending, within [0, ``vocabulary``)."""
    if kept.dtype != torch.int64 or kept.ndim != 1 or not len(kept):
        raise PruneError(f"kept must be int64 of shape (D,), D >= 1, got {kept.dtype} of shape {tuple(kept.shape)}")
    if kept.device.type == "meta":
        return
    if not (kept[1:] > kept[:-1]).all():
        row = int((kept[1:] <= kept[:-1]).nonzero()[0]) + 1
        raise PruneError(f"kept ids must be strictly ascending, got {int(kept[row])} after {int(kept[row - 1])}")
    if int(kept[0]) < 0 or int(kept[-1]) >= vocabulary:
        raise PruneError(f"kept ids must lie in [0, {vocabulary}), got [{int(kept[0])}, {int(kept[-1])}]")


def grow_embedding(model: PreTrainedModel, rows: int) -> PreTrainedModel:
    """Give the input embedding at least ``rows`` rows, in place, zeros behind the others; the model is also returned.

    Of two models with one vocabulary the one padded less then reads whatever id the other says. The head stays as it is.
    """
    embedding = model.get_input_embeddings()
    return model if len(embedding.weight) >= rows else resize_embedding(model, rows)


def resize_embedding(model: PreTrainedModel, rows: int) -> PreTrainedModel:
    """Give the input embedding exactly ``rows`` rows, in place: zeros are added, or rows cut off; a tied head is untied."""
    embedding = model.get_input_embeddings()  # the module stays: some families scale in it (Gemma 3)
    old = embedding.weight
    weight = old.new_zeros(rows, old.shape[1])
    shared = min(rows, len(old))
    with torch.no_grad():
        weight[:shared] = old[:shared]
    embedding.weight = nn.Parameter(weight, requires_grad=old.requires_grad)
    embedding.num_embeddings = rows
    return model
