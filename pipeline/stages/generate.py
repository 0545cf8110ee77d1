"""generate: the target's own continuations, sampled as they will be served; ids only.

What a target says of itself is what its drafter must guess, so counts, priors and stop policies are best fitted to it.
Each request is drawn with coins keyed by (seed, its number, position) and batches never cross shards, so a shard's
bytes do not depend on where an earlier run was killed, as long as it goes on with the same processor and threads (others round
otherwise, and about one token in a million is then another). What the files ``shard-00000.safetensors`` ... hold, says
`pipeline.text.generations`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from omegaconf import DictConfig
from torch import Tensor

from drafters.engine.limits import Limits
from drafters.io.atomic import write_atomic, write_json
from drafters.models.pair import Checkpoint, check_generation_config, context_length, open_checkpoint
from drafters.probs import Sampling
from eval.run.progress import bytes_in_words
from eval.suites import suite as suites
from eval.suites.row_files import Skipped
from eval.suites.suite import SuiteConfig
from pipeline.config import settings as shared
from pipeline.config.settings import corpus_of, read, suite_of
from pipeline.errors import ConfigError
from pipeline.generate.target import ENGINE, VLLM, Generation, Make, here, on_ray
from pipeline.runner.stage import Context, Stage, Workspace, pair_external, say
from pipeline.text import corpus, generations
from pipeline.text.chat_format import chat_format
from pipeline.text.corpus import CorpusConfig


@dataclass
class GenerateConfig:
    """What is continued, and how it is sampled."""

    # corpus: beginnings of the train split's documents, of chats what the target answers first | suite: its prompts
    prompts: str = "corpus"
    requests: int = 512  # continuations; of a suite at most one per prompt
    prefix_tokens: int = 64  # of a document; of a chat or a suite's prompt, all that fit into the target's context
    max_new_tokens: int = 128
    # Sample as you will serve: what is likely at another temperature is other text
    temperature: float = 1.0
    top_k: int = 0  # 0: off
    top_p: float = 1.0  # 1: off
    batch_size: int = (
        8  # requests decoded together and written as one file: what a kill costs at most; on a GPU e.g. 64
    )
    # engine: this project's | vllm: a running server (`vllm serve TARGET`), for targets that need its speed
    backend: str = "engine"
    url: str | None = None  # of the server, e.g. http://localhost:8000/v1
    model: str | None = None  # the name under which it serves the target; null: the target's own


def run(context: Context) -> None:
    """Write the missing shards and the report."""
    cfg, settings, pair = context.cfg, read(context.cfg.generate, GenerateConfig), shared.pair_of(context.cfg)
    target = open_checkpoint("target", pair)
    check_generation_config(target, pair["unset"])  # else it would be text that the served target never says
    source = suite_of(cfg) if settings.prompts == "suite" else corpus_of(cfg)
    room, skipped = _room(settings, context_length(target.config)), Skipped()
    found = list(islice(_prompts(source, settings, target, room, cfg.seed, skipped), settings.requests))
    prompts = [prompt for prompt, _ in found]
    if skipped.line:
        say(context.console, skipped.line)
    if not prompts:
        raise ConfigError(
            f"generate.prompts={settings.prompts}: no prompts: {_too_short(settings)}; choose another corpus or suite"
        )
    if settings.prompts == "corpus" and len(prompts) < settings.requests:
        say(
            context.console,
            f"{len(prompts):,} of generate.requests={settings.requests}: {_too_short(settings, 'further ')}",
        )
    say(
        context.console,
        f"{len(prompts):,} continuations of up to {settings.max_new_tokens} tokens: at most "
        f"{len(prompts) * settings.max_new_tokens:,} tokens, {bytes_in_words(_bytes(prompts, settings))}",
    )
    write_json(context.out / generations.DOMAINS, [domain for _, domain in found])
    limits = Limits(settings.max_new_tokens, Sampling(settings.temperature, settings.top_k, settings.top_p))
    how = Generation(
        pair,
        limits,
        settings.batch_size,
        cfg.seed,
        cfg.device,
        cfg.dtype,
        settings.backend,
        settings.url,
        settings.model,
    )
    make = on_ray(how, shared.crew_of(cfg)) if shared.hardware_of(cfg).backend == "ray" else here(how, target)
    write_shards(context, prompts, settings.batch_size, make)


def write_shards(work: Workspace, prompts: list[Tensor], size: int, make: Make) -> None:
    """Continue the prompts, int64 (n,) each, in shards of `size`; a shard that is there already is kept."""
    tokens, starts = 0, range(0, len(prompts), size)
    paths = [generations.shard_path(work.out, number) for number in range(len(starts))]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    spans = [range(starts[number], min(starts[number] + size, len(prompts))) for number in missing]
    there = len(prompts) - sum(map(len, spans))
    if there:
        say(work.console, f"{there:,} of {len(prompts):,} prompts were there already")
    with work.progress("Generating", len(prompts), "requests") as bar:
        bar.advance(there, kept=True)
        if missing:
            pieces = [([prompts[i] for i in span], list(span)) for span in spans]
            for index, made in make(pieces, bar.advance):
                write_atomic(paths[missing[index]], made)
    for path in paths:
        tokens += sum(len(continuation) for _, continuation in generations.read_shard(path))
    report = {"requests": len(prompts), "tokens": tokens, "prompt_tokens": sum(map(len, prompts))}
    write_json(work.out / "report.json", report)
    say(work.console, f"{tokens:,} tokens generated")


def _prompts(
    source: SuiteConfig | CorpusConfig,
    settings: GenerateConfig,
    target: Checkpoint,
    room: int | None,
    seed: int,
    skipped: Skipped,
) -> Iterator[tuple[Tensor, str]]:
    """Ids of each prompt, int64 (n,), and its domain, empty where nobody says it."""
    tokenizer = target.tokenizer
    if isinstance(source, SuiteConfig):
        loaded = suites.load(source, tokenizer, seed=seed)
        yield from ((suites.encode(prompt, tokenizer, room), prompt.domain) for prompt in loaded)
        return
    length = settings.prefix_tokens if room is None else min(settings.prefix_tokens, room)
    for document in corpus.documents(source, "train", chat_format(target), skipped, answered=False):
        if document.prompt:
            yield suites.ids_of_rendered(document.prompt, tokenizer, room), document.domain
            continue
        # eight characters a token are more than enough, and a whole book need not be encoded for its first line
        ids = tokenizer.encode(document.text[: 8 * length])[:length]
        if len(ids) == length:
            yield torch.tensor(ids, dtype=torch.int64), document.domain


def _too_short(settings: GenerateConfig, more: str = "") -> str:
    """Why there are no prompts, or no ``more`` of them."""
    if settings.prompts == "suite":
        return "the suite is empty"
    return (
        f"no {more}chat with a question, and no {more}document of generate.prefix_tokens={settings.prefix_tokens} tokens "
        "(a row is one; plain text is cut into such of 20,000 characters)"
    )


def _room(settings: GenerateConfig, limit: int | None) -> int | None:
    """Tokens that a prompt may have; None: no limit."""
    if limit is None:
        return None
    if limit <= settings.max_new_tokens:
        raise ConfigError(
            f"generate.max_new_tokens={settings.max_new_tokens}: the target's context holds {limit} tokens, prompt "
            f"included; set it below {limit}"
        )
    return limit - settings.max_new_tokens


def _bytes(prompts: list[Tensor], settings: GenerateConfig) -> int:
    return 4 * sum(len(prompt) + settings.max_new_tokens for prompt in prompts)


def config(cfg: DictConfig) -> dict[str, object]:
    """Sampling, seed, precision, and the settings of the prompts."""
    values = shared.plain(cfg.generate) | {"seed": cfg.seed, "dtype": cfg.dtype}
    del values["url"]  # where the server runs says nothing about what it writes
    if cfg.generate.prompts == "suite":
        return values | {"suite": shared.suite_key(suite_of(cfg))}
    return values | {"corpus": corpus.key_values(corpus_of(cfg))}


def external(cfg: DictConfig) -> dict[str, str]:
    """The target, and where the prompts come from."""
    suite = cfg.generate.prompts == "suite"
    return pair_external(cfg, "target") | (
        shared.suite_external(suite_of(cfg)) if suite else corpus.external(corpus_of(cfg))
    )


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for settings that cannot work, before anything is loaded."""
    settings = cfg.generate
    if settings.prompts not in ("corpus", "suite"):
        raise ConfigError(f"generate.prompts={settings.prompts}: choose one of: corpus, suite")
    shared.look(cfg, settings.prompts)
    for name in ("requests", "prefix_tokens", "max_new_tokens", "batch_size"):
        if settings[name] < 1:
            raise ConfigError(f"generate.{name}={settings[name]}: expected a whole number from 1")
    if settings.backend not in (ENGINE, VLLM):
        raise ConfigError(f"generate.backend={settings.backend}: choose one of: {ENGINE}, {VLLM}")
    if settings.backend == VLLM and not settings.url:
        raise ConfigError(
            f"generate.backend={VLLM}: expected generate.url, the address of a running server, got null; start one "
            f"with `vllm serve {cfg.pair.target}` and set generate.url=http://localhost:8000/v1"
        )
    try:
        Sampling(settings.temperature, settings.top_k, settings.top_p)
    except ValueError as error:
        raise ConfigError(f"generate: {error}") from error


def decodes(cfg: DictConfig) -> bool:
    """Whether the target runs in this process, not behind a server or on a cluster."""
    return bool(shared.hardware_of(cfg).backend != "ray" and cfg.generate.backend == ENGINE)


STAGE = Stage(name="generate", run=run, config=config, external=external, check=check, decodes=decodes)
