"""count: exact token counts of a corpus, or of the target's own generations, for every later vocabulary size at once.

``counts.safetensors``, all int64: ``counts`` (V,), ``domains`` (n_domains, V) in the order of the report's names, and
``heldout_counts`` (V,), of documents that are in neither: what a choice made by `counts` covers of text it has not
seen. Where the drafter has another tokenizer, the same texts counted with it: ``drafter_counts``, ``drafter_domains``,
``drafter_heldout_counts``. A stream is counted in shards; a rerun skips the finished ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from drafters.io.atomic import write_atomic, write_json
from drafters.io.safe_load import read_json
from drafters.models.pair import Checkpoint, open_checkpoint, pair_settings
from drafters.vocab.alignment import same_vocabulary
from drafters.vocab.spelling import spelling
from pipeline.count.shards import Item, Totals, count_stream, limited, utf8_bytes
from pipeline.errors import ConfigError
from pipeline.runner.stage import Context, Stage
from pipeline.text import corpus, generations
from pipeline.text.python_source import Document

SOURCES = ("corpus", "generations")
HELD_OUT_EVERY = 20  # generations: as many as of a corpus, 5 %
MB_PER_SECOND = 5.0  # of one process, for the estimate that is printed; measured on Python source with a 50k vocabulary


@dataclass
class CountConfig:
    """The settings of stage=count: which text is counted, and in what portions."""

    # corpus | generations: the target's own text, made by the stage generate
    source: str = "corpus"
    workers: int | None = None  # processes; null: all cores
    max_bytes: int | None = None  # of the corpus, held-out part included; null: all of it
    shard_bytes: int = 256_000_000  # what a kill costs at most


def run(context: Context) -> None:
    """Count, write the counts, say how much text it was."""
    settings, out = context.cfg.count, context.out
    if not (out / "report.json").exists():  # written last: all that is left after it is to remove the parts
        pair = pair_settings(context.cfg.pair)
        target = open_checkpoint("target", pair)
        drafter = _foreign_drafter(pair, target)
        _announce(context, 1 if drafter is None else 2)
        sides = {"": target} if drafter is None else {"": target, "drafter_": drafter}
        totals = {prefix: _count(context, prefix, side) for prefix, side in sides.items()}
        if not int(totals[""].sum("train").sum()):
            raise ConfigError(f"count.source={settings.source}: it holds no tokens; choose another corpus")
        domains = sorted(totals[""].rows["train"])
        tensors = {
            prefix + name: row for prefix, part in totals.items() for name, row in _tensors(part, domains).items()
        }
        write_atomic(out / "counts.safetensors", save(tensors))
        report = _report(settings.source, totals, domains)
        write_json(out / "report.json", report)
    for part in out.glob(".part-*"):
        part.unlink()
    _say(context, json.loads((out / "report.json").read_text()))


def _foreign_drafter(pair: dict[str, Any], target: Checkpoint) -> Checkpoint | None:
    """The drafter where its tokenizer is another one; whether it is, is looked up where the pair does not say."""
    if pair["foreign"] is False:
        return None
    drafter = open_checkpoint("drafter", pair)
    same = same_vocabulary(
        spelling(target.tokenizer, target.vocabulary), spelling(drafter.tokenizer, drafter.vocabulary)
    )
    return None if same and not pair["foreign"] else drafter


def _count(context: Context, prefix: str, side: Checkpoint) -> Totals:
    settings = context.cfg.count
    if settings.source == "generations" and not prefix:
        return _count_ids(context.inputs["generate"], side)
    with context.progress(f"Counting {prefix.rstrip('_') or 'target'} tokens", _size(context), "bytes") as bar:
        return count_stream(
            _items(context),
            side.tokenizer,
            side.vocabulary,
            context.out / f".part-{prefix}counts",
            shard_bytes=settings.shard_bytes,
            on_bytes=bar.advance,
            **_processes(context.cfg),
        )


def _processes(cfg: DictConfig) -> dict[str, Any]:
    """Who counts beside this process."""
    workers = cfg.count.workers
    if _backend(cfg) == "local":
        return {"workers": workers}
    from pipeline.count.ray import cluster_workers, ray_fanout  # here: Ray is an extra

    address = cfg.hardware.address
    return {"workers": workers or cluster_workers(address), "fanout": ray_fanout(address)}


def _backend(cfg: DictConfig) -> str:
    return str(OmegaConf.select(cfg, "hardware.backend", default="local"))


def _items(context: Context) -> Iterator[Item]:
    """The texts, in an order that never changes."""
    if context.cfg.count.source == "corpus":
        yield from limited(corpus.both(corpus.corpus_config(context.cfg)), context.cfg.count.max_bytes)
        return
    tokenizer = open_checkpoint("target", pair_settings(context.cfg.pair)).tokenizer
    for number, (_, new) in enumerate(generations.read(context.inputs["generate"])):
        yield _split(number), Document(f"request {number}", _text(tokenizer, new), "generations")


def _count_ids(folder: Path, side: Checkpoint) -> Totals:
    """Generations are ids already; of the prompts, which the target did not write, nothing counts."""
    totals = Totals(side.vocabulary, methods={"ids": ""})
    for number, (_, new) in enumerate(generations.read(folder)):
        split = _split(number)
        totals.add(split, "generations", torch.bincount(new, minlength=side.vocabulary))
        totals.documents[split] += 1
        totals.bytes[split] += utf8_bytes(_text(side.tokenizer, new))
    return totals


def _split(number: int) -> corpus.Split:
    return "heldout" if number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 else "train"


def _text(tokenizer: PreTrainedTokenizerBase, ids: Tensor) -> str:
    return tokenizer.decode(ids.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _tensors(totals: Totals, domains: list[str]) -> dict[str, Tensor]:
    return {
        "counts": totals.sum("train"),
        "domains": totals.stacked(domains),
        "heldout_counts": totals.sum("heldout"),
    }


def _report(source: str, totals: dict[str, Totals], domains: list[str]) -> dict[str, Any]:
    target = totals[""]
    return {
        "source": source,
        "tokens": int(target.sum("train").sum()),
        "bytes": target.bytes["train"],
        "documents": target.documents["train"],
        "domains": domains,
        "heldout_tokens": int(target.sum("heldout").sum()),
        "heldout_documents": target.documents["heldout"],
        "distinct": int((target.sum("train") > 0).sum()),
        "methods": {f"{prefix}counts": part.methods for prefix, part in totals.items()},
    }


def _size(context: Context) -> int | None:
    """Bytes that will be read once, where that is known."""
    settings = context.cfg.count
    size = corpus.size_hint(corpus.corpus_config(context.cfg)) if settings.source == "corpus" else None
    return settings.max_bytes if size is None else min(size, settings.max_bytes or size)


def _announce(context: Context, passes: int) -> None:
    settings, size = context.cfg.count, _size(context)
    if settings.source == "generations":
        return
    workers = settings.workers or os.cpu_count() or 1
    how_long = "a stream of unknown length" if size is None else f"{size / 1e6:,.0f} MB of text"
    if size is not None:
        how_long += f", about {passes * size / 1e6 / MB_PER_SECOND / workers:,.0f} s on {workers} processes"
    context.console.print(f"counting {how_long}", highlight=False)


def _say(context: Context, report: dict[str, Any]) -> None:
    context.console.print(
        f"{report['tokens']:,} tokens in {report['documents']:,} documents ({report['bytes'] / 1e6:,.1f} MB), "
        f"{report['distinct']:,} different ones; {report['heldout_tokens']:,} more held out",
        highlight=False,
    )
    for name, methods in report["methods"].items():
        if "plain" in methods:
            context.console.print(f"{name}: every text encoded, the slow way: {methods['plain']}", markup=False)


def inputs(cfg: DictConfig) -> dict[str, str]:
    """Generations, where those are counted."""
    return {"generate": "generate"} if cfg.count.source == "generations" else {}


def config(cfg: DictConfig) -> dict[str, Any]:
    """All but the number of processes, which changes no count."""
    values: Any = OmegaConf.to_container(cfg.count, resolve=True, throw_on_missing=True)
    values |= {"workers": None, "foreign": cfg.pair.foreign}
    return values | ({"corpus": corpus.key_values(corpus.corpus_config(cfg))} if cfg.count.source == "corpus" else {})


def external(cfg: DictConfig) -> dict[str, str]:
    """The models, for their tokenizers, and the corpus."""
    found = {}
    for role in ("target",) if cfg.pair.foreign is False else ("target", "drafter"):
        revision = cfg.pair.get(f"{role}_revision")
        found[role] = f"{cfg.pair[role]}@{revision}" if revision else str(cfg.pair[role])
    return found | (corpus.external(corpus.corpus_config(cfg)) if cfg.count.source == "corpus" else {})


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for settings that cannot work, before anything is loaded."""
    settings = cfg.count
    if settings.source not in SOURCES:
        raise ConfigError(f"count.source={settings.source}: choose one of: {', '.join(SOURCES)}")
    for name in ("workers", "max_bytes", "shard_bytes"):
        if settings[name] is not None and settings[name] < 1:
            raise ConfigError(f"count.{name}={settings[name]}: expected a whole number from 1, or null")
    if settings.source == "corpus":
        corpus.corpus_config(cfg)


def brief(directory: Path) -> str:
    """Summarise the run in one line: tokens counted, and how many are different."""
    report = read_json(directory, "report.json")
    return f"{report['tokens']:,} tokens of text, {report['distinct']:,} different"


STAGE = Stage(
    name="count",
    run=run,
    inputs=inputs,
    config=config,
    external=external,
    check=check,
    brief=brief,
)
