"""Tokens per second against the number of requests decoded together, beside what matrix products alone would allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from drafters.engine.decode import Decoded, autoregressive, speculative
from drafters.engine.limits import Limits
from drafters.engine.transformers_pair import TransformersPair, full_map, pair_of
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import build
from drafters.stop.policies.static import Static
from eval.bench import embedded
from eval.bench.output import Figures, device_here, environment, finish
from eval.costs.timing import alternate, median


@dataclass
class BatchOptions:
    """The options of the batch benchmark."""

    sizes: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16])  # numbers of requests decoded together, B
    tokens: int = 48  # new ones per request
    length: int = 3  # tokens drafted per round
    rounds: int = 3  # timings of each, at least 3
    threads: int = 1


def measure(options: BatchOptions) -> Figures:
    """Per B: tokens/s of plain and of speculative decoding, over B = 1, and the ceiling; T = 1, embedded pair, fp32."""
    torch.set_num_threads(options.threads)
    models = embedded.load_endless(device_here())
    pair, sampler = pair_of(models), build("standard", full_map(models))
    prompts = embedded.prompts(models, max(options.sizes), 192)
    limits = Limits(options.tokens, Sampling(1.0), ignore_eos=True)

    def decode(size: int, length: int) -> Decoded:
        coins = KeyedCoins(0, torch.arange(size, device=pair.device))
        if length == 0:
            return autoregressive(pair, prompts[:size], coins, limits)
        return speculative(pair, sampler, Static(length), prompts[:size], coins, limits)

    tasks: dict[tuple[str, int], Callable[[], object]] = {
        (kind, size): partial(decode, size, length)
        for size in options.sizes
        for kind, length in (("autoregressive", 0), ("speculative", options.length))
    }
    tasks |= {("products", size): _products(pair, size) for size in options.sizes}
    seconds = {name: median(series) for name, series in alternate(tasks, options.rounds, pair.device).items()}
    rows = {}
    for size in options.sizes:
        row: Figures = {}
        for kind in ("autoregressive", "speculative"):
            row[kind] = {
                "tokens_per_second": size * options.tokens / seconds[kind, size],
                "vs_one": size * seconds[kind, 1] / seconds[kind, size],
            }
        row["ceiling"] = size * seconds["products", 1] / seconds["products", size]
        rows[str(size)] = row
    return {"options": vars(options), "sizes": rows, "kv_bytes_per_token": _kv_bytes(pair)} | environment()


def _products(pair: TransformersPair, size: int) -> Callable[[], Tensor]:
    """The target's matrix products for one token of each of `size` requests, and nothing else."""
    layers = [part for part in pair.target.modules() if isinstance(part, nn.Linear)]
    inputs = [torch.randn(size, part.in_features, device=pair.device) for part in layers]

    @torch.inference_mode()
    def run() -> Tensor:
        out = inputs[0]
        for _ in range(8):
            for part, entry in zip(layers, inputs, strict=True):
                out = part(entry)
        return out

    return run


def _kv_bytes(pair: TransformersPair) -> dict[str, int]:
    """Bytes of keys and values per token: by the configuration, and as allocated for 100 slots (99 and a spare one)."""
    config = pair.target.config
    theory = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * pair.target.dtype.itemsize
    model: Any = pair.open_target(1, 99)
    model.extend(torch.tensor([[1]]))
    held = sum(part.nbytes for layer in model.cache.layers for part in (layer.keys, layer.values))
    return {"theory": theory, "allocated": held // 100}


def lines(result: Figures) -> list[str]:
    """The result as lines to print: tokens/s per batch size, and bytes of keys and values."""
    found = ["B: tokens/s plain (over B = 1), speculative (over B = 1), ceiling of the matrix products"]
    for size, row in result["sizes"].items():
        plain, drafted = row["autoregressive"], row["speculative"]
        found.append(
            f"{int(size):3}: {plain['tokens_per_second']:7.1f} ({plain['vs_one']:.2f} x)  "
            f"{drafted['tokens_per_second']:7.1f} ({drafted['vs_one']:.2f} x)  {row['ceiling']:.2f} x"
        )
    kv = result["kv_bytes_per_token"]
    found.append(f"keys and values per token: {kv['allocated']:,} bytes, {kv['theory']:,} by the configuration")
    return found


def main(options: BatchOptions) -> int:
    """Measure, write runs/bench/batch.json, and print; returns the exit status."""
    result = measure(options)
    return finish("batch", result, lines(result))
