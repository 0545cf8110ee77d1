"""Generation on Ray: shards of requests go to processes that hold the target; which of them makes a shard changes nothing in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from pipeline.cluster import ray_workers
from pipeline.generate import target

Work = tuple[list[Tensor], list[int]]  # prompts int64 (n,) each, their requests' numbers


class Generator:
    """The target in a process of its own."""

    def __init__(self, settings: dict[str, Any], threads: int | None):
        if threads is not None:
            torch.set_num_threads(threads)
        cfg = OmegaConf.create(settings)
        self._decode, self._batch_size = target.decoder(cfg), cfg.generate.batch_size

    def do(self, work: Work) -> bytes:
        """A shard's file."""
        prompts, requests = work
        return target.shard(self._decode, prompts, requests, self._batch_size)


def shards(cfg: DictConfig, work: Sequence[Work]) -> Iterator[tuple[int, bytes]]:
    """(index, the shard's file) as they are made, on the cluster of `hardware`. Raises DistributedError without Ray."""
    ray = ray_workers.connect(cfg.hardware.address)
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    gpus = cfg.hardware.gpus_per_worker
    workers = ray_workers.size(ray, cfg.hardware.workers, gpus)
    yield from ray_workers.results(ray, Generator, (settings, ray_workers.threads(cfg)), work, workers, gpus)
