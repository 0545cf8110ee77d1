"""The target as a machine that continues prompts: in this process or in many, or behind a server that speaks OpenAI's completions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from drafters.engine.decode import autoregressive
from drafters.engine.limits import Limits
from drafters.engine.transformers_pair import TransformersPair
from drafters.models.devices import choose_device, choose_dtype, must_shard
from drafters.models.model_folder import open_model
from drafters.models.pair import Checkpoint, open_checkpoint
from drafters.rng.coins import KeyedCoins
from pipeline.cluster import ray_workers
from pipeline.generate.vllm_client import Server
from pipeline.text import generations

Decode = Callable[[Sequence[Tensor], Sequence[int]], list[Tensor]]  # prompts, request numbers -> new tokens of each
ENGINE, VLLM = "engine", "vllm"  # values of generate.backend


@dataclass(frozen=True)
class Generation:
    """How a target continues prompts; the same in every process that does."""

    pair: Mapping[str, Any]  # of `drafters.models.pair.pair_settings`
    limits: Limits
    batch_size: int  # requests decoded together
    seed: int
    device: str
    dtype: str
    backend: str  # ENGINE | VLLM
    url: str | None  # of the server
    model: str | None  # the name under which it serves the target; None: the target's own


def decoder(how: Generation, target: Checkpoint | None = None) -> Decode:
    """What ``how.backend`` names, ready to decode. Raises as opening a model does, and ServerError."""
    target = target or open_checkpoint("target", how.pair)
    if how.backend == VLLM:
        served = Server(how.url, how.model or str(how.pair["target"]))
        return lambda prompts, requests: served.complete(prompts, requests, how.limits, target.eos, how.seed)
    where = choose_device(how.device)
    number = choose_dtype(how.dtype, where)
    model = open_model(target.source, target.config, number, where, must_shard(target.weight_bytes(number), where))
    pair = TransformersPair(model, model, target.eos)  # plain decoding opens the target alone

    def decode(prompts: Sequence[Tensor], requests: Sequence[int]) -> list[Tensor]:
        coins = KeyedCoins(how.seed, torch.tensor(requests, device=pair.device))
        return autoregressive(pair, prompts, coins, how.limits).tokens

    return decode


# a shard: prompts int64 (n,) each, their requests' numbers
Work = tuple[list[Tensor], list[int]]
# (work, batch done) -> (index, the shard's file) as they are made
Make = Callable[[Sequence[Work], Callable[[int], None]], Iterator[tuple[int, bytes]]]


def here(how: Generation, target: Checkpoint) -> Make:
    """Shards made in this process, one after the other."""

    def make(work: Sequence[Work], done: Callable[[int], None]) -> Iterator[tuple[int, bytes]]:
        decode = decoder(how, target)
        for index, piece in enumerate(work):
            yield index, shard(decode, piece, how.batch_size, done)

    return make


def on_ray(how: Generation, crew: ray_workers.Crew) -> Make:
    """Shards made by processes that each hold the target; which of them makes a shard changes nothing in it.

    Raises DistributedError without Ray.
    """

    def make(work: Sequence[Work], done: Callable[[int], None]) -> Iterator[tuple[int, bytes]]:
        for index, made in ray_workers.results(crew, Generator, (how, crew.threads), work):
            done(len(work[index][1]))
            yield index, made

    return make


class Generator:
    """The target in a process of its own."""

    def __init__(self, how: Generation, threads: int | None):
        if threads is not None:
            torch.set_num_threads(threads)
        self._decode, self._batch_size = decoder(how), how.batch_size

    def do(self, work: Work) -> bytes:
        """Continue a shard's prompts and return the shard's file, as bytes."""
        return shard(self._decode, work, self._batch_size)


def shard(decode: Decode, work: Work, batch_size: int, done: Callable[[int], None] = lambda count: None) -> bytes:
    """A shard's file: the prompts, int64 (n,) each, continued in batches of its own. `done` is told of every batch."""
    prompts, requests = work
    new: list[Tensor] = []
    for first in range(0, len(prompts), batch_size):
        chosen = slice(first, first + batch_size)
        new += decode(prompts[chosen], requests[chosen])
        done(len(requests[chosen]))
    return generations.pack(prompts, new)
