"""A drafter's step with a whole and with a pruned head, against the bytes that pruning saves: drafting is memory bound.

A step costs more than its bytes: the calls of its layers, most of which are gone where it is compiled (ten seconds per model)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from drafters.engine.cache.cached_model import TransformersModel
from drafters.engine.compiled.compiled_forward import HOT
from drafters.models.prune import prune_head
from eval.bench.output import Figures, device_here, environment, finish
from eval.costs.timing import alternate, median

CONTEXT = 32
STEPS = 4  # per timing


@dataclass
class StepOptions:
    """The options of the step benchmark."""

    vocabularies: list[int] = field(default_factory=lambda: [32_000, 128_256, 151_936, 256_000])  # their sizes, V
    shares: list[float] = field(default_factory=lambda: [0.5, 0.25, 0.1, 0.05, 0.02, 0.01])  # of the rows kept
    rounds: int = 9  # timings of each, at least 3
    threads: int = 1
    compile: bool = True  # as `drafters.generate(..., compile=True)` runs it; false: transformers' own forward


def measure(options: StepOptions) -> Figures:
    """Per V and share: milliseconds of a step, share of time saved, share of bytes saved, and their ratio."""
    torch.set_num_threads(options.threads)
    tables = {str(size): _table(size, options, device_here()) for size in options.vocabularies}
    rows = [row for table in tables.values() for row in table["pruned"].values()]
    worst = min(row["of_bytes_saved"] for row in rows), max(row["of_bytes_saved"] for row in rows)
    return {
        "compiled": options.compile,
        "shape": "2 layers, hidden 1,024, random weights (time does not depend on them), B = 1",
        "vocabularies": tables,
        "of_bytes_saved": {"least": worst[0], "most": worst[1]},
    } | environment()


@torch.inference_mode()
def _table(vocabulary: int, options: StepOptions, device: torch.device) -> Figures:
    whole = _drafter(vocabulary).to(device)
    models: dict[str, PreTrainedModel] = {"full": whole}
    for share in options.shares:
        kept = torch.arange(round(vocabulary * share)) * vocabulary // round(vocabulary * share)
        models[str(share)] = prune_head(_beside(whole), kept.to(device))
    tasks = {name: _steps(model, options.compile) for name, model in models.items()}
    seconds = {name: median(series) / STEPS for name, series in alternate(tasks, options.rounds, device).items()}
    weights = {name: _bytes(model) for name, model in models.items()}
    pruned = {}
    for name in list(models)[1:]:
        saved, fewer = 1 - seconds[name] / seconds["full"], 1 - weights[name] / weights["full"]
        pruned[name] = {
            "milliseconds": 1e3 * seconds[name],
            "time_saved": saved,
            "bytes_saved": fewer,
            "of_bytes_saved": saved / fewer,
        }
    rate = weights["full"] / seconds["full"]
    return {"milliseconds": 1e3 * seconds["full"], "bytes": weights["full"], "bytes_per_second": rate, "pruned": pruned}


def _drafter(vocabulary: int) -> LlamaForCausalLM:
    shape = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=2,
        num_attention_heads=16,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(shape).eval()


def _beside(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """Another model with the same weights, not copied."""
    with torch.device("meta"):
        other = LlamaForCausalLM(model.config)
    other.load_state_dict(model.state_dict(), assign=True)
    other.tie_weights()
    other.model.rotary_emb = model.model.rotary_emb
    return other.eval()


def _bytes(model: PreTrainedModel) -> int:
    """Weights that one step reads: layers and head; of the embedding one row."""
    embedding = model.get_input_embeddings().weight
    body = sum(
        weight.numel() * weight.element_size()
        for weight in model.parameters()
        if weight.data_ptr() != embedding.data_ptr()
    )
    head = model.get_output_embeddings()
    tied = head is not None and head.weight.data_ptr() == embedding.data_ptr()
    return body + (embedding.numel() * embedding.element_size() if tied else 0)


def _steps(model: PreTrainedModel, compile: bool) -> Callable[[], None]:
    cached = TransformersModel(model, 1, CONTEXT + 1, compile)
    cached.extend(torch.arange(CONTEXT).unsqueeze(0), logits=False)

    def run() -> None:
        for _ in range(STEPS):
            cached.extend(torch.tensor([[7]]))
            cached.keep([[CONTEXT - 1]])

    for _ in range(HOT if compile else 0):  # a length that has come often enough is compiled
        run()
    return run


def lines(result: Figures) -> list[str]:
    """The result as lines to print: milliseconds per step, time and bytes saved, per share kept."""
    found = ["step with a pruned head: V, kept, ms (whole), time saved / bytes saved"]
    for size, table in result["vocabularies"].items():
        for share, row in table["pruned"].items():
            found.append(
                f"{int(size):8,}  {float(share):5.0%}  {row['milliseconds']:7.2f} ({table['milliseconds']:.2f})  "
                f"{row['time_saved']:.1%} / {row['bytes_saved']:.1%} = {row['of_bytes_saved']:.2f}"
            )
    return found


def main(options: StepOptions) -> int:
    """Measure, write runs/bench/steps.json, and print; returns the exit status."""
    result = measure(options)
    return finish("steps", result, lines(result))
