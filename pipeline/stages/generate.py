"""generate: the target's own continuations, sampled as they will be served; ids only.

What a target says of itself is what its drafter must guess, so counts, priors and stop policies are best fitted to it.
Each request is drawn with coins keyed by (seed, its number, position) and batches never cross shards, so a shard's
bytes do not depend on where an earlier run was killed, as long as it goes on with the same processor and threads (others round
otherwise, and about one token in a million is then another). What the files ``shard-00000.safetensors`` ... hold, says
`pipeline.text.generations`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from drafters.io.atomic import write_atomic, write_json
from drafters.models.pair import Checkpoint, context_length, open_checkpoint, pair_settings
from drafters.probs import Sampling
from eval.suites import suite as suites
from pipeline.errors import ConfigError
from pipeline.generate import target as generating
from pipeline.runner.stage import Context, Stage
from pipeline.text import corpus, generations

Work = tuple[list[Tensor], list[int]]  # a shard: prompts int64 (n,) each, their requests' numbers


@dataclass
class GenerateConfig:
    """What is continued, and how it is sampled."""

    # corpus: beginnings of the train split's documents | suite: its prompts
    prompts: str = "corpus"
    requests: int = 512  # continuations; of a suite at most one per prompt
    prefix_tokens: int = 64  # of a document; of a suite's prompt, all that fit into the target's context
    max_new_tokens: int = 128
    # Sample as you will serve: what is likely at another temperature is other text
    temperature: float = 1.0
    top_k: int = 0  # 0: off
    top_p: float = 1.0  # 1: off
    shard_size: int = 64  # requests per file: what a kill costs at most
    batch_size: int = 16  # requests decoded together
    # engine: this project's | vllm: a running server (`vllm serve TARGET`), for targets that need its speed
    backend: str = "engine"
    url: str | None = None  # of the server, e.g. http://localhost:8000/v1
    model: str | None = None  # the name under which it serves the target; null: the target's own


def run(context: Context) -> None:
    """Write the missing shards and the report."""
    settings = context.cfg.generate
    target = open_checkpoint("target", pair_settings(context.cfg.pair))
    room = _room(settings, context_length(target.config))
    prompts = list(islice(_prompts(context.cfg, target.tokenizer, room), settings.requests))
    if not prompts:
        raise ConfigError(f"generate.prompts={settings.prompts}: no prompts; choose another corpus or suite")
    context.console.print(
        f"{len(prompts):,} continuations of up to {settings.max_new_tokens} tokens: at most "
        f"{len(prompts) * settings.max_new_tokens:,} tokens, {_megabytes(prompts, settings):.1f} MB",
        highlight=False,
    )
    backend = str(OmegaConf.select(context.cfg, "hardware.backend", default="local"))
    write_shards(context, prompts, _on_ray(context.cfg) if backend == "ray" else _here(context.cfg, target))


# (work, batch done) -> (index, the shard's file) as they are made
Make = Callable[[Sequence[Work], Callable[[int], None]], Iterator[tuple[int, bytes]]]


def _here(cfg: DictConfig, target: Checkpoint) -> Make:
    def make(work: Sequence[Work], done: Callable[[int], None]) -> Iterator[tuple[int, bytes]]:
        decode = generating.decoder(cfg, target)
        for index, (prompts, requests) in enumerate(work):
            yield index, generating.shard(decode, prompts, requests, cfg.generate.batch_size, done)

    return make


def _on_ray(cfg: DictConfig) -> Make:
    def make(work: Sequence[Work], done: Callable[[int], None]) -> Iterator[tuple[int, bytes]]:
        from pipeline.generate.ray import shards  # here: Ray is an extra

        for index, made in shards(cfg, work):
            done(len(work[index][1]))
            yield index, made

    return make


def write_shards(context: Context, prompts: list[Tensor], make: Make) -> None:
    """Continue the prompts, int64 (n,) each, shard by shard; a shard that is there already is kept."""
    size, tokens = context.cfg.generate.shard_size, 0
    starts = range(0, len(prompts), size)
    paths = [generations.shard_path(context.out, number) for number in range(len(starts))]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    spans = [range(starts[number], min(starts[number] + size, len(prompts))) for number in missing]
    there = len(prompts) - sum(map(len, spans))
    if there:
        context.console.print(f"{there:,} of {len(prompts):,} prompts were there already", highlight=False)
    with context.progress("Generating", len(prompts), "requests") as bar:
        bar.advance(there, kept=True)
        if missing:
            work = [([prompts[i] for i in span], list(span)) for span in spans]
            for index, made in make(work, bar.advance):
                write_atomic(paths[missing[index]], made)
    for path in paths:
        tokens += sum(len(continuation) for _, continuation in generations.read_shard(path))
    report = {"requests": len(prompts), "tokens": tokens, "prompt_tokens": sum(map(len, prompts))}
    write_json(context.out / "report.json", report)
    context.console.print(f"{tokens:,} tokens generated", highlight=False)


def _prompts(cfg: DictConfig, tokenizer: PreTrainedTokenizerBase, room: int | None) -> Iterator[Tensor]:
    settings = cfg.generate
    if settings.prompts == "suite":
        chosen = suites.load(_suite(cfg), tokenizer, seed=cfg.seed)
        yield from (suites.encode(prompt, tokenizer, room) for prompt in chosen)
        return
    length = settings.prefix_tokens if room is None else min(settings.prefix_tokens, room)
    for document in corpus.documents(corpus.corpus_config(cfg), "train"):
        # eight characters a token are more than enough, and a whole book need not be encoded for its first line
        ids = tokenizer.encode(document.text[: 8 * length])[:length]
        if len(ids) == length:
            yield torch.tensor(ids, dtype=torch.int64)


def _room(settings: DictConfig, limit: int | None) -> int | None:
    """Tokens that a prompt may have; None: no limit."""
    if limit is None:
        return None
    if limit <= settings.max_new_tokens:
        raise ConfigError(
            f"generate.max_new_tokens={settings.max_new_tokens}: the target's context holds {limit} tokens, prompt "
            f"included; set it below {limit}"
        )
    return limit - settings.max_new_tokens


def _megabytes(prompts: list[Tensor], settings: DictConfig) -> float:
    return 4 * sum(len(prompt) + settings.max_new_tokens for prompt in prompts) / 1e6


def _suite(cfg: DictConfig) -> dict[str, Any]:
    if cfg.get("suite") is None:
        raise ConfigError("no suite: choose one of conf/suite, e.g. suite=pycode")
    values: Any = OmegaConf.to_container(cfg.suite, resolve=True, throw_on_missing=True)
    return {str(name): value for name, value in values.items()}


def config(cfg: DictConfig) -> dict[str, Any]:
    """Sampling, seed, precision, and the settings of the prompts."""
    values: Any = OmegaConf.to_container(cfg.generate, resolve=True, throw_on_missing=True)
    values |= {"seed": cfg.seed, "dtype": cfg.dtype}
    del values["url"]  # where the server runs says nothing about what it writes
    if cfg.generate.prompts == "suite":
        return values | {"suite": _suite(cfg) | {"path": None}}
    return values | {"corpus": corpus.key_values(corpus.corpus_config(cfg))}


def external(cfg: DictConfig) -> dict[str, str]:
    """The target, and where the prompts come from."""
    revision = cfg.pair.get("target_revision")
    found = {"target": f"{cfg.pair.target}@{revision}" if revision else str(cfg.pair.target)}
    if cfg.generate.prompts == "corpus":
        return found | corpus.external(corpus.corpus_config(cfg))
    suite = suites.suite_config(_suite(cfg))
    if suite.path is None:
        return found | {"suite": f"{suite.hub}@{suite.revision}"}
    embedded = suites.EMBEDDED / suite.path
    return found | {"suite": str(embedded if embedded.is_file() else suite.path)}


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for settings that cannot work, before anything is loaded."""
    settings = cfg.generate
    if settings.prompts not in ("corpus", "suite"):
        raise ConfigError(f"generate.prompts={settings.prompts}: choose one of: corpus, suite")
    for name in ("requests", "prefix_tokens", "max_new_tokens", "shard_size", "batch_size"):
        if settings[name] < 1:
            raise ConfigError(f"generate.{name}={settings[name]}: expected a whole number from 1")
    if settings.backend not in (generating.ENGINE, generating.VLLM):
        raise ConfigError(f"generate.backend={settings.backend}: choose one of: {generating.ENGINE}, {generating.VLLM}")
    if settings.backend == generating.VLLM and not settings.url:
        raise ConfigError(
            f"generate.backend={generating.VLLM}: expected generate.url, the address of a running server, got null; start one "
            f"with `vllm serve {cfg.pair.target}` and set generate.url=http://localhost:8000/v1"
        )
    try:
        Sampling(settings.temperature, settings.top_k, settings.top_p)
    except ValueError as error:
        raise ConfigError(f"generate: {error}") from error


def decodes(cfg: DictConfig) -> bool:
    """Whether the target runs in this process, not behind a server or on a cluster."""
    local = OmegaConf.select(cfg, "hardware.backend", default="local") != "ray"
    return bool(local and cfg.generate.backend == generating.ENGINE)


STAGE = Stage(name="generate", run=run, config=config, external=external, check=check, decodes=decodes)
