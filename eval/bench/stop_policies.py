"""What a decision of a trained stop policy costs beside the drafter forward that it decides on: the share `disco_step_share`.

A decision is timed right behind a drafter forward, as decoding has it, and in a loop (`in_a_loop_*`), where all is in the caches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from drafters.engine.cache.cached_model import TransformersModel
from drafters.io.paths import ZOO
from drafters.models.prune import prune_head
from drafters.stop.catalog import build
from drafters.stop.features import NAMES
from eval.bench.output import Figures, device_here, environment, finish
from eval.costs.stop_decisions import decision_seconds
from eval.costs.timing import alternate, median, nothing

LIMITS = {"vicuna-68m": 0.03, "pycode": 0.08}  # of a drafter forward
HIDDEN = 32
CONTEXT = 128


@dataclass
class StopPolicyOptions:
    """The options of the benchmark of stop policies."""

    runs: int = 100  # timings of each, at least 3; on as many threads as are set


def drafters(device: torch.device) -> dict[str, PreTrainedModel]:
    """The shape of vicuna-68m (random weights: time does not depend on them), and the embedded drafter with a quarter of its head."""
    shape = LlamaConfig(
        vocab_size=32_000, hidden_size=768, intermediate_size=3072, num_hidden_layers=2, num_attention_heads=12
    )
    embedded = AutoModelForCausalLM.from_pretrained(ZOO / "drafter", dtype=torch.float32, local_files_only=True)
    pruned = prune_head(embedded, torch.arange(0, embedded.config.vocab_size, 4))
    found: dict[str, PreTrainedModel] = {"vicuna-68m": LlamaForCausalLM(shape), "pycode": pruned}
    return {name: model.to(device).eval() for name, model in found.items()}


def measure(models: Mapping[str, PreTrainedModel], runs: int = 100) -> Figures:
    """Per drafter and temperature 0 and 1: seconds of a forward and of a decision at B = 1, medians, and their ratio.

    Both run on the threads that are set. Raises TimingError for fewer than 3 runs.
    """
    policy = build("cost_aware", {"c": 0.1, "rate": 1.5, "first": 0.7}, trained=_network())
    results = {}
    for name, model in models.items():
        device = model.get_input_embeddings().weight.device
        forward, columns = _forward_seconds(model, runs)
        ahead = partial(_forward, _filled(model))
        rows = {}
        for temperature in (0, 1):
            alone, behind = (
                decision_seconds(policy, columns, runs, device, temperature == 0, before) for before in (nothing, ahead)
            )
            rows[f"T={temperature}"] = {
                "decision_seconds": behind,
                "disco_step_share": behind / forward,
                "in_a_loop_seconds": alone,
                "in_a_loop_share": alone / forward,
            }
        results[name] = {"columns": columns, "drafter_seconds": forward, "limit": LIMITS.get(name), **rows}
    return {"runs": runs, "drafters": results} | environment()


@torch.inference_mode()
def _filled(model: PreTrainedModel) -> TransformersModel:
    """The drafter behind a context, through the engine's cache."""
    cached = TransformersModel(model, 1, CONTEXT + 2)
    cached.extend(torch.arange(1, CONTEXT + 1).unsqueeze(0), logits=False)
    return cached


def _forward(cached: TransformersModel) -> None:
    """One token, undone again."""
    cached.extend(torch.tensor([[1]]))
    cached.keep([[CONTEXT - 1]])


def _network() -> Any:
    """A classifier of the shape that is trained by default."""
    generator = torch.Generator().manual_seed(0)
    widths = (len(NAMES), HIDDEN, 2)
    tensors: dict[str, Tensor] = {"mean": torch.zeros(widths[0]), "scale": torch.ones(widths[0])}
    for layer in range(2):
        tensors[f"layers.{layer}.weight"] = torch.randn(widths[layer + 1], widths[layer], generator=generator)
        tensors[f"layers.{layer}.bias"] = torch.zeros(widths[layer + 1])
    config = {"features": list(NAMES), "hidden": [HIDDEN], "outputs": 2, "activation": "relu", "parameters": {}}
    return SimpleNamespace(config=config, tensors=tensors)


@torch.inference_mode()
def _forward_seconds(model: PreTrainedModel, runs: int) -> tuple[float, int]:
    """Seconds of a forward of one token through the engine's cache, and the columns of its logits."""
    cached = _filled(model)
    task = {"forward": partial(cached.extend, torch.tensor([[1]]))}
    undo = {"forward": partial(cached.keep, [[CONTEXT - 1]])}
    seconds = median(alternate(task, runs, cached.device, warm_up=3, after=undo)["forward"])
    return seconds, model.get_output_embeddings().weight.shape[0]


def lines(result: Figures) -> Iterator[str]:
    """A line to print per drafter and temperature."""
    for name, row in result["drafters"].items():
        for temperature in ("T=0", "T=1"):
            found, limit = row[temperature], row["limit"]
            verdict = "OVER its limit" if found["disco_step_share"] > limit else "limit"
            yield (
                f"{name:12} D {row['columns']:6,}  {temperature}  drafter forward {1e3 * row['drafter_seconds']:6.2f} ms, "
                f"decision {1e3 * found['decision_seconds']:6.3f} ms: {found['disco_step_share']:.1%} ({verdict} of {limit:.0%}), "
                f"in a loop {found['in_a_loop_share']:.1%}"
            )


def main(options: StopPolicyOptions) -> int:
    """Measure, write runs/bench/stop.json, and print; 1 where a share in a loop is over its limit."""
    result = measure(drafters(device_here()), options.runs)
    # What the exit status guards is the decision's own code; behind a forward the machine's caches decide, too.
    rows = result["drafters"].values()
    within = all(row[heat]["in_a_loop_share"] <= row["limit"] for row in rows for heat in ("T=0", "T=1"))
    return finish("stop", result, lines(result), within)
