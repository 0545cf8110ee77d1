"""The target as a machine that continues prompts: in this process, or behind a server that speaks OpenAI's completions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from omegaconf import DictConfig
from torch import Tensor

from drafters.engine.decode import autoregressive
from drafters.engine.limits import Limits
from drafters.engine.transformers_pair import TransformersPair
from drafters.models.devices import choose_device, choose_dtype, must_shard
from drafters.models.model_folder import open_model
from drafters.models.pair import Checkpoint, open_checkpoint, pair_settings
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from pipeline.generate.vllm_client import Server
from pipeline.text import generations

Decode = Callable[[Sequence[Tensor], Sequence[int]], list[Tensor]]  # prompts, request numbers -> new tokens of each
ENGINE, VLLM = "engine", "vllm"  # values of generate.backend


def decoder(cfg: DictConfig, target: Checkpoint | None = None) -> Decode:
    """What `generate.backend` names, ready to decode. Raises as opening a model does, and ServerError."""
    target = target or open_checkpoint("target", pair_settings(cfg.pair))
    settings = cfg.generate
    limits = Limits(settings.max_new_tokens, Sampling(settings.temperature, settings.top_k, settings.top_p))
    if settings.backend == VLLM:
        served = Server(settings.url, settings.model or str(cfg.pair.target))
        return lambda prompts, requests: served.complete(prompts, requests, limits, target.eos, cfg.seed)
    where = choose_device(cfg.device)
    number = choose_dtype(cfg.dtype, where)
    model = open_model(target.source, target.config, number, where, must_shard(target.weight_bytes(number), where))
    pair = TransformersPair(model, model, target.eos)  # plain decoding opens the target alone

    def decode(prompts: Sequence[Tensor], requests: Sequence[int]) -> list[Tensor]:
        coins = KeyedCoins(cfg.seed, torch.tensor(requests, device=pair.device))
        return autoregressive(pair, prompts, coins, limits).tokens

    return decode


def shard(
    decode: Decode,
    prompts: Sequence[Tensor],
    requests: Sequence[int],
    batch_size: int,
    done: Callable[[int], None] = lambda count: None,
) -> bytes:
    """A shard's file: the prompts, int64 (n,) each, continued in batches of its own. `done` is told of every batch."""
    new: list[Tensor] = []
    for first in range(0, len(prompts), batch_size):
        chosen = slice(first, first + batch_size)
        new += decode(prompts[chosen], requests[chosen])
        done(len(requests[chosen]))
    return generations.pack(list(prompts), new)
