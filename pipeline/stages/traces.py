"""traces: what the drafter would have said at every position of the target's own text, and whether it would have passed.

Prompts are split by document (of a corpus) or by prompt (of a suite) into train, validation and test. Writes Arrow shards of
features and labels, see `pipeline.disco.traces.trace` and `pipeline.disco.traces.trace_files`; a rerun skips the
finished ones. ``report.json`` holds the counts, the mean acceptance and the splits' hashes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import numpy as np
from omegaconf import DictConfig

from drafters.io.atomic import write_json
from drafters.io.safe_load import read_json
from drafters.probs import Sampling
from drafters.stop.features import NAMES
from pipeline.config import settings as shared
from pipeline.config.settings import corpus_of, read, suite_of
from pipeline.disco.setup import open_pair
from pipeline.disco.traces import trace_files, trace_prompts
from pipeline.disco.traces.trace import traced
from pipeline.errors import ConfigError
from pipeline.runner.stage import Context, Stage, Workspace, always, pair_external, say
from pipeline.text import corpus


@dataclass
class TracesConfig:
    """The settings of stage=traces: prompts, temperatures, and whose drafts are recorded."""

    # corpus: pieces of its held-out documents | suite: its prompts
    prompts: str = "corpus"
    requests: int = 480  # prompts, each at every temperature
    prefix_tokens: int = 64  # of a piece
    per_document: int = 2  # pieces
    max_new_tokens: int = 96
    temperatures: list[float] = field(default_factory=lambda: [0.0, 1.0])
    # Whose drafts; null: package.sampler, or the plain one that fits. A stop policy is trained for one sampler
    sampler: str | None = None
    validation: float = 0.2  # documents or prompts: a share, or from 1 on a number
    test: float = 0.2
    shard_size: int = 16  # requests decoded together and written as one file: what a kill costs at most


def run(context: Context) -> None:
    """Trace what is missing, then say what there is."""
    cfg, settings = context.cfg, read(context.cfg.traces, TracesConfig)
    with context.progress("Opening the models", None):
        opened = open_pair(
            shared.pair_of(cfg), context.inputs, shared.traced_sampler(cfg), device=cfg.device, dtype=cfg.dtype
        )
    room = trace_prompts.room(settings.max_new_tokens, opened.models.context_lengths, opened.pair.expansion)
    source = suite_of(cfg) if settings.prompts == "suite" else corpus_of(cfg)
    pieces = trace_prompts.Pieces(settings.requests, settings.prefix_tokens, settings.per_document)
    chosen = trace_prompts.prompts(source, pieces, opened.models.target_tokenizer, room, cfg.seed)
    parts = trace_prompts.split([prompt.group for prompt in chosen], settings.validation, settings.test, cfg.seed)
    rows = len(chosen) * settings.max_new_tokens * len(settings.temperatures)
    size = rows * 4 * (len(NAMES) + 8) / 1e6
    say(
        context.console,
        f"tracing {len(chosen)} prompts at {len(settings.temperatures)} temperatures: "
        f"up to {rows:,} drafts, {size:.1f} MB",
    )
    with context.progress("Tracing", len(chosen) * len(settings.temperatures), "requests") as bar:
        for temperature in settings.temperatures:
            sampling = Sampling(temperature, cfg.package.top_k, cfg.package.top_p)
            for start in range(0, len(chosen), settings.shard_size):
                numbers = range(start, min(start + settings.shard_size, len(chosen)))
                path = trace_files.shard_path(context.out, temperature, start // settings.shard_size)
                kept = path.exists()
                if not kept:
                    some = [chosen[number] for number in numbers]
                    ids = [item.ids for item in some]
                    found = traced(
                        opened.pair, opened.sampler, ids, numbers, sampling, cfg.seed, settings.max_new_tokens
                    )
                    requests = [
                        trace_files.Request(number, item.group, parts[item.group], temperature, trace)
                        for number, item, trace in zip(numbers, some, found, strict=True)
                    ]
                    trace_files.write_shard(path, requests)
                bar.advance(len(numbers), kept=kept)
    _finish(context, parts, settings.temperatures, opened.sampler.name)


class Summary(TypedDict):
    """What was traced at one temperature."""

    requests: dict[str, int]  # by split
    drafts: int
    acceptance: float


def _finish(work: Workspace, parts: dict[str, str], temperatures: list[float], sampler: str) -> None:
    requests = trace_files.read_shards(work.out)
    summary: dict[str, Summary] = {}
    for temperature in temperatures:
        here = [item for item in requests if item.temperature == round(temperature, 6)]
        chances = np.concatenate([item.trace.overlap.numpy() for item in here])
        summary[f"{temperature:g}"] = {
            "requests": {name: sum(item.split == name for item in here) for name in trace_prompts.SPLITS},
            "drafts": len(chances),
            "acceptance": float(chances.mean()),
        }
    report = {"sampler": sampler, "features": list(NAMES), "temperatures": summary} | {
        "splits": trace_prompts.split_hashes(parts),
        "groups": {name: sorted(g for g, part in parts.items() if part == name) for name in trace_prompts.SPLITS},
    }
    write_json(work.out / "report.json", report)
    for heat, found in summary.items():
        counts = ", ".join(f"{count} {name}" for name, count in found["requests"].items())
        say(
            work.console,
            f"T = {heat}: {found['drafts']:,} drafts by {sampler}, acceptance {found['acceptance']:.3f}; requests: {counts}",
        )


def config(cfg: DictConfig) -> dict[str, object]:
    """Sampling, seed, precision, and the settings of the prompts."""
    warps = {name: cfg.package[name] for name in ("top_k", "top_p")}
    values = shared.plain(cfg.traces) | {"sampler": shared.traced_sampler(cfg), "seed": cfg.seed, "dtype": cfg.dtype}
    values |= {"foreign": cfg.pair.foreign, **warps}
    if cfg.traces.prompts == "suite":
        return values | {"suite": shared.suite_key(suite_of(cfg))}
    return values | {"corpus": corpus.key_values(corpus_of(cfg))}


def external(cfg: DictConfig) -> dict[str, str]:
    """The models, and where the prompts come from."""
    suite = cfg.traces.prompts == "suite"
    return pair_external(cfg) | (shared.suite_external(suite_of(cfg)) if suite else corpus.external(corpus_of(cfg)))


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for settings that cannot work, before anything is loaded."""
    settings = cfg.traces
    if settings.prompts not in ("corpus", "suite"):
        raise ConfigError(f"traces.prompts={settings.prompts}: choose one of: corpus, suite")
    shared.look(cfg, settings.prompts)
    for name in ("requests", "prefix_tokens", "max_new_tokens", "shard_size"):
        if settings[name] < 1:
            raise ConfigError(f"traces.{name}={settings[name]}: expected a whole number from 1")
    if not 1 <= settings.per_document <= 8:
        raise ConfigError(f"traces.per_document={settings.per_document}: expected a whole number from 1 to 8")
    for name in ("validation", "test"):
        if not settings[name] > 0:
            raise ConfigError(f"traces.{name}={settings[name]}: expected a share between 0 and 1, or a number from 1")
    if not settings.temperatures or len(set(settings.temperatures)) < len(settings.temperatures):
        raise ConfigError(
            f"traces.temperatures={settings.temperatures}: expected different numbers from 0, e.g. [0, 1]"
        )
    try:
        for temperature in settings.temperatures:
            Sampling(temperature, cfg.package.top_k, cfg.package.top_p)
    except ValueError as error:
        raise ConfigError(f"traces: {error}") from error


def brief(directory: Path) -> str:
    """Summarise the run in one line: how many drafts were traced."""
    found = read_json(directory, "report.json")["temperatures"]
    return f"{sum(item['drafts'] for item in found.values()):,} drafts on the target's own text"


STAGE = Stage(
    name="traces",
    run=run,
    inputs=shared.traced_inputs,
    config=config,
    external=external,
    check=check,
    decodes=always,
    brief=brief,
)
