"""Both models' laws on given text, piece by piece: what priors and tails are fitted to and chosen by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from drafters.probs import Sampling, warp


@dataclass(frozen=True)
class Piece:
    """One window of a document under teacher forcing."""

    ids: Tensor  # int64 (n,) the tokens read; each law is of the one after
    p: Tensor  # (n, V)
    logits: Tensor  # (n, D) of the drafter's head, before any warp
    hidden: Tensor  # (n, H) what the drafter's head reads


@torch.inference_mode()
def pieces(
    target: PreTrainedModel, drafter: PreTrainedModel, windows: Iterable[Tensor], sampling: Sampling
) -> Iterator[Piece]:
    """The laws of both models after every token of each window, int64 (n,) each."""
    seen: list[Tensor] = []
    head = drafter.get_output_embeddings()
    # The hidden states are taken where the head reads them: what follows the head (soft-capping, scaling) differs by model.
    hook = head.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    try:
        for ids in windows:
            batch = ids.unsqueeze(0)
            logits = target(input_ids=batch.to(target.device), use_cache=False).logits[0].float()
            own = drafter(input_ids=batch.to(drafter.device), use_cache=False).logits[0].float()
            yield Piece(ids, warp(logits, sampling), own, seen.pop()[0].float())
    finally:
        hook.remove()


def windows(documents: Iterable[Tensor], length: int, per_document: int) -> Iterator[tuple[int, Tensor]]:
    """(document's number, int64 (<= length,)) of the first `per_document` windows of each; of two tokens at least."""
    for number, ids in enumerate(documents):
        for part in ids[: length * per_document].split(length):
            if len(part) > 1:
                yield number, part
