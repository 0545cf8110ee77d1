"""What the executors ask of a pair of models, and its implementation on transformers models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from drafters.engine.cache.cached_model import Model, TransformersModel
from drafters.models.pair import ModelPair, context_length
from drafters.vocab.alignment import VocabMap
from drafters.vocab.feed import FeedTable


class Pair(Protocol):
    """A target and a drafter that can be opened for a batch."""

    @property
    def eos(self) -> tuple[int, ...]:
        """Target ids that end a text."""
        ...

    @property
    def device(self) -> torch.device:
        """Where tokens, distributions and coins live."""
        ...

    @property
    def context(self) -> tuple[int | None, int | None]:
        """Positions the target and the drafter were built for, None without a limit."""
        ...

    @property
    def expansion(self) -> int:
        """Most drafter ids that one target token is fed as."""
        ...

    def open_target(self, rows: int, capacity: int) -> Model:
        """The target with an empty cache for `rows` requests of at most `capacity` slots."""
        ...

    def open_drafter(self, rows: int, capacity: int) -> Model:
        """The drafter with an empty cache for `rows` requests of at most `capacity` slots."""
        ...

    def prompt(self, ids: list[int]) -> list[int]:
        """A prompt of target ids as the drafter reads it."""
        ...

    def feed(self, token: int) -> list[int]:
        """The drafter ids of one committed target token; empty where it cannot be spelled."""
        ...

    def feed_one(self, tokens: Tensor) -> Tensor:
        """(B,) target ids -> the single drafter id each is fed as, -1 where one id is not enough."""
        ...


@dataclass(frozen=True)
class TransformersPair:
    """Two transformers models. `drafter` may have a short head: its vocabulary map belongs to the sampler, not here."""

    target: PreTrainedModel
    drafter: PreTrainedModel
    eos: tuple[int, ...]
    table: FeedTable | None = None  # None: one tokenizer, tokens are fed as they are
    models: ModelPair | None = None  # for prompts of foreign pairs
    compile: bool = False  # compile the forwards that recur; for B = 1

    @property
    def device(self) -> torch.device:
        """Where the target's input embedding lives; distributions and tokens live there too."""
        return self.target.get_input_embeddings().weight.device

    @property
    def context(self) -> tuple[int | None, int | None]:
        """The context lengths of target and drafter in tokens, None without a limit."""
        return context_length(self.target.config), context_length(self.drafter.config)

    @property
    def expansion(self) -> int:
        """The most drafter ids that one target token is fed as; 1 with a shared tokenizer."""
        return 1 if self.table is None else int(self.table.offsets.diff().max())

    def open_target(self, rows: int, capacity: int) -> Model:
        """A fresh cache on the target."""
        return TransformersModel(self.target, rows, capacity, self.compile)

    def open_drafter(self, rows: int, capacity: int) -> Model:
        """A fresh cache on the drafter."""
        return TransformersModel(self.drafter, rows, capacity, self.compile)

    def prompt(self, ids: list[int]) -> list[int]:
        """Spell a prompt of target ids in drafter ids; the same ids with a shared tokenizer."""
        if self.models is None:
            return ids
        return self.models.drafter_prompt(torch.tensor(ids)).tolist()

    def feed(self, token: int) -> list[int]:
        """The drafter ids of one committed target token; empty where it cannot be spelled."""
        return [token] if self.table is None else self.table.row(token).tolist()

    def feed_one(self, tokens: Tensor) -> Tensor:
        """Target ids (B,) -> the single drafter id each is fed as, -1 where one id is not enough."""
        if self.table is None:
            return tokens
        offsets, ids = self.table.offsets.to(tokens.device), self.table.ids.to(tokens.device)
        begin = offsets[tokens.clamp(min=0)]
        single = (offsets[tokens.clamp(min=0) + 1] - begin == 1) & (tokens >= 0)
        return torch.where(single, ids[begin.clamp(max=ids.shape[0] - 1)], -1)


def pair_of(models: ModelPair, drafter: PreTrainedModel | None = None, compile: bool = False) -> TransformersPair:
    """A loaded pair as the engine sees it; `drafter` replaces the pair's own, e.g. by one with a pruned head."""
    foreign = models if models.foreign else None
    return TransformersPair(models.target, drafter or models.drafter, models.eos, models.feed, foreign, compile)


def full_map(models: ModelPair) -> VocabMap:
    """The vocabulary map of the unpruned pair."""
    if models.vocab is not None:
        return models.vocab
    ids = torch.arange(models.vocabulary)
    return VocabMap(ids, ids)
