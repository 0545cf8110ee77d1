"""The cost model: tokens per second predicted from measured costs and logged acceptance, against what was measured.

A round of k drafts takes o + k (o1 + d) + t(k + 1): d and t from the models alone, o and o1 (what the engine does around them)
from rounds on other prompts than those predicted. A machine's speed drifts: d and t are measured anew beside every batch of requests,
and a row is the round of the median error. Besides: t(n) and d of shapes of real models, with random weights."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from drafters.engine.decode import Decoded, autoregressive, speculative
from drafters.engine.limits import Limits
from drafters.engine.transformers_pair import TransformersPair, full_map, pair_of
from drafters.models.prune import prune_head
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import build
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import VocabMap
from eval.bench import embedded
from eval.bench.output import Figures, device_here, environment, finish
from eval.costs.forwards import Costs, measure_costs
from eval.costs.timing import median
from eval.run.trials import synchronise

COST_RUNS = 10  # forwards of each length beside every batch of requests
# Published sizes; the weights are random, which time does not depend on.
SHAPES = {
    "vicuna-68m": (32_000, 768, 3072, 2, 12, 12),
    "Qwen2.5-0.5B": (151_936, 896, 4864, 24, 14, 2),
}
LARGE = {  # on a GPU, in bf16
    "Llama-3.2-1B": (128_256, 2048, 8192, 16, 32, 8),
    "Llama-3.1-8B": (128_256, 4096, 14_336, 32, 32, 8),
    "Qwen2.5-7B": (152_064, 3584, 18_944, 28, 28, 4),
}
SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)


@dataclass
class CostModelOptions:
    """The options of the cost-model benchmark."""

    prompts: int = 12  # half to learn the engine's own cost from, half to predict
    tokens: int = 64  # new ones per request
    lengths: list[int] = field(default_factory=lambda: [1, 2, 3, 5])  # tokens drafted per round
    rounds: int = 5  # timings of each
    threads: int = 1
    shapes: bool = True  # also the costs of shapes of real models


@dataclass(frozen=True)
class Run:
    """Requests of one length: rounds, drafts, tokens, seconds, and what forwards cost at that moment."""

    length: int
    rounds: int
    drafted: int
    tokens: int
    seconds: float
    costs: Costs

    def predicted(self, around: tuple[float, float]) -> float:
        """Tokens per second, given (o, o1)."""
        return self.tokens / (self.rounds * round_seconds(self.per_round, self.costs, around))

    def error(self, around: tuple[float, float]) -> float:
        """Predicted over measured, less 1."""
        return self.predicted(around) * self.seconds / self.tokens - 1

    @property
    def per_round(self) -> float:
        """The mean number of drafts per round."""
        return self.drafted / self.rounds


def measure(options: CostModelOptions) -> Figures:
    """Predicted over measured tokens/s per length on held-out prompts, T = 1, embedded pair, fp32, B = 1."""
    torch.set_num_threads(options.threads)
    device = device_here()
    models = embedded.load_endless(device)
    pair, prompts = pair_of(models), embedded.prompts(models, options.prompts, 192)
    half = len(prompts) // 2
    known, unknown = _runs(pair, full_map(models), {0: prompts[:half], half: prompts[half:]}, options)
    around = fit(known)
    shapes = {**SHAPES, **(LARGE if device.type == "cuda" else {})} if options.shapes else {}
    rows = {}
    for length in [0, *options.lengths]:
        runs = [run for run in unknown if run.length == length]
        middle = sorted(runs, key=lambda run: run.error(around))[len(runs) // 2]  # so that a row's figures fit together
        rows[str(length)] = {
            "predicted_tokens_per_second": middle.predicted(around),
            "measured_tokens_per_second": middle.tokens / middle.seconds,
            "error": middle.error(around),
            "forwards_alone": middle.error((0.0, 0.0)),
        }
    every = [run.costs for run in known + unknown]
    return {
        "options": vars(options),
        "lengths": rows,
        "worst_error": max(abs(row["error"]) for row in rows.values()),
        "seconds": {
            "t": median([costs.t for costs in every]),
            "d": median([costs.drafters["drafter"].median for costs in every]),
            "per_round": around[0],
            "per_draft": around[1],
        },
        "shapes": {name: _shape(sizes, device) for name, sizes in shapes.items()},
    } | environment()


def round_seconds(drafts: float, costs: Costs, around: tuple[float, float]) -> float:
    """o + k (o1 + d) + t(k + 1)."""
    lengths = sorted(costs.target)
    verify = float(np.interp(drafts + 1, lengths, [costs.target[n].median for n in lengths]))
    return around[0] + drafts * (around[1] + costs.drafters["drafter"].median) + verify


def fit(runs: list[Run]) -> tuple[float, float]:
    """(o, o1) by least squares over what a round takes besides its forwards."""
    rest = [run.seconds / run.rounds - round_seconds(run.per_round, run.costs, (0.0, 0.0)) for run in runs]
    ones = np.array([[1.0, run.per_round] for run in runs])
    found = np.linalg.lstsq(ones, np.array(rest), rcond=None)[0]
    return float(found[0]), float(found[1])


def _runs(
    pair: TransformersPair, vocab: VocabMap, prompts: Mapping[int, list[Tensor]], options: CostModelOptions
) -> tuple[list[Run], ...]:
    """Runs of every group of prompts, by its first number: every length in every round, the first round not counted."""
    sampler, limits = build("standard", vocab), Limits(options.tokens, Sampling(1.0), ignore_eos=True)

    def decode(length: int, first: int) -> list[Decoded]:
        numbered = [
            (ids, KeyedCoins(0, torch.tensor([first + n], device=pair.device))) for n, ids in enumerate(prompts[first])
        ]
        if length == 0:
            return [autoregressive(pair, [ids], coins, limits) for ids, coins in numbered]
        return [speculative(pair, sampler, Static(length), [ids], coins, limits) for ids, coins in numbered]

    lengths, found = [0, *options.lengths], {first: list[Run]() for first in prompts}
    ids = next(iter(prompts.values()))[0]
    for number in range(-1, options.rounds):
        for length in lengths if number % 2 == 0 else lengths[::-1]:
            for first, runs in found.items():
                costs = measure_costs({"drafter": pair}, ids, range(1, max(lengths) + 2), COST_RUNS)
                synchronise(pair.device)
                start = time.perf_counter()
                made = decode(length, first)
                synchronise(pair.device)
                seconds = time.perf_counter() - start
                rounds, drafted = (
                    sum(int(getattr(one, name).sum()) for one in made) for name in ("target_forwards", "drafted")
                )
                tokens = sum(len(one.tokens[0]) for one in made)
                if number >= 0:
                    runs.append(Run(length, rounds, drafted, tokens, seconds, costs))
    return tuple(found.values())


def _shape(sizes: tuple[int, ...], device: torch.device) -> Figures:
    """t(n) and d, whole and with a quarter of the head, of one published shape."""
    config = LlamaConfig(**dict(zip(SIZES, sizes, strict=True)), tie_word_embeddings=True)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    with torch.device(device):
        model = LlamaForCausalLM(config).to(dtype).eval()
    prompt = torch.arange(64)
    whole = measure_costs({"drafter": TransformersPair(model, model, ())}, prompt, (1, 4, 8), 7)
    pruned = prune_head(model, torch.arange(0, config.vocab_size, 4, device=device))
    quarter = measure_costs({"drafter": TransformersPair(pruned, pruned, ())}, prompt, (1,), 7)
    return {
        "weights": "random",
        "dtype": str(dtype),
        "t_n_ms": {str(n): 1e3 * timing.median for n, timing in whole.target.items()},
        "d_ms": 1e3 * whole.drafters["drafter"].median,
        "d_quarter_ms": 1e3 * quarter.drafters["drafter"].median,
    }


def lines(result: Figures) -> list[str]:
    """The result as lines to print: tokens/s predicted and measured, and the error, per draft length."""
    found = ["drafts per round: tokens/s predicted, measured, error (of forwards alone)"]
    for length, row in result["lengths"].items():
        found.append(
            f"{int(length):3}: {row['predicted_tokens_per_second']:6.1f} {row['measured_tokens_per_second']:6.1f} "
            f"{row['error']:+.1%} ({row['forwards_alone']:+.1%})"
        )
    for name, row in result["shapes"].items():
        steps = ", ".join(f"t({n}) {ms:.1f}" for n, ms in row["t_n_ms"].items())
        found.append(f"{name} (random weights): {steps}, a quarter of the head {row['d_quarter_ms']:.1f} ms")
    return found


def main(options: CostModelOptions) -> int:
    """Measure, write runs/bench/costs.json, and print; returns the exit status."""
    result = measure(options)
    return finish("costs", result, lines(result))
