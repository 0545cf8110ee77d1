"""count: exact token counts of a corpus, or of the target's own generations, for every later vocabulary size at once.

``counts.safetensors``, all int64: ``counts`` (V,), ``domains`` (n_domains, V) in the order of the report's names, and
``heldout_counts`` (V,), of documents that are in neither: what a choice made by `counts` covers of text it has not
seen. Where the drafter has another tokenizer, the same texts counted with it: ``drafter_counts``, ``drafter_domains``,
``drafter_heldout_counts``. A stream is counted in shards; a rerun skips the finished ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from safetensors.torch import save
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from drafters.io.atomic import write_atomic, write_json
from drafters.io.safe_load import read_json
from drafters.models.pair import Checkpoint, match_vocabularies, open_checkpoint
from drafters.vocab.counting.counts import MakeFanout
from drafters.vocab.counting.processes import Fanout
from eval.run.progress import megabytes
from eval.suites.row_files import Skipped
from pipeline.config.settings import HardwareConfig, corpus_of, hardware_of, look, pair_of, plain, read
from pipeline.count.shards import Item, Totals, count_stream, limited, utf8_bytes
from pipeline.errors import ConfigError
from pipeline.runner.stage import Context, Stage, Workspace, pair_external, say
from pipeline.text import corpus as corpora
from pipeline.text import generations
from pipeline.text.chat_format import chat_format
from pipeline.text.corpus import CorpusConfig
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


@dataclass(frozen=True)
class _Texts:
    """What is counted: a corpus up to some size, or the target's own continuations."""

    corpus: CorpusConfig | None
    generated: Path | None
    max_bytes: int | None

    @property
    def size(self) -> int | None:
        """Bytes that will be read once, where that is known."""
        size = None if self.corpus is None else corpora.size_hint(self.corpus)
        return self.max_bytes if size is None else min(size, self.max_bytes or size)

    def items(self, target: Checkpoint, foreign: bool, skipped: Skipped) -> Iterator[Item]:
        """The texts, in an order that never changes; chats for a foreign tokenizer without the target's special tokens."""
        if self.corpus is not None:
            chats = chat_format(target)
            for split, item in limited(corpora.both(self.corpus, chats=chats, skipped=skipped), self.max_bytes):
                bare = foreign and item.whole is not None
                yield split, replace(item, text=chats.without_specials(item.text)) if bare else item
            return
        for number, (_, new) in enumerate(generations.read(self.generated or Path())):
            yield _split(number), Document(f"request {number}", _text(target.tokenizer, new), "generations")


def run(context: Context) -> None:
    """Count, write the counts, say how much text it was."""
    settings, out = read(context.cfg.count, CountConfig), context.out
    if not (out / "report.json").exists():  # written last: all that is left after it is to remove the parts
        texts = _texts(context, settings)
        sides = _sides(pair_of(context.cfg))
        _announce(context.console, texts, sides, settings.workers)
        hardware, broken = hardware_of(context.cfg), {prefix: Skipped() for prefix in sides}
        totals = {prefix: _count(context, texts, sides, prefix, settings, hardware, broken[prefix]) for prefix in sides}
        if not int(totals[""].sum("train").sum()):
            raise ConfigError(f"count.source={settings.source}: it holds no tokens; choose another corpus")
        domains = sorted(totals[""].rows["train"])
        tensors = {
            prefix + name: row for prefix, part in totals.items() for name, row in _tensors(part, domains).items()
        }
        write_atomic(out / "counts.safetensors", save(tensors))
        report = _report(settings.source, totals, domains) | {"broken": asdict(broken[""])}
        write_json(out / "report.json", report)
    for part in out.glob(".part-*"):
        part.unlink()
    _say(context.console, read_json(out, "report.json"))


def _texts(context: Context, settings: CountConfig) -> _Texts:
    if settings.source == "generations":
        return _Texts(None, context.inputs["generate"], settings.max_bytes)
    return _Texts(corpus_of(context.cfg), None, settings.max_bytes)


def _sides(pair: Mapping[str, Any]) -> dict[str, Checkpoint]:
    """Prefix of the counts' names -> whose tokens: the target's, and the drafter's where its vocabulary is another one.

    Whether it is, is looked up where the pair does not say.
    """
    target = open_checkpoint("target", pair)
    if pair["foreign"] is False:
        return {"": target}
    drafter = open_checkpoint("drafter", pair)
    foreign = match_vocabularies(target, drafter, pair["foreign"]).foreign
    return {"": target, "drafter_": drafter} if foreign else {"": target}


def _count(
    work: Workspace,
    texts: _Texts,
    sides: Mapping[str, Checkpoint],
    prefix: str,
    settings: CountConfig,
    hardware: HardwareConfig,
    skipped: Skipped,
) -> Totals:
    side = sides[prefix]
    if texts.generated is not None and not prefix:
        return _count_ids(texts.generated, side)
    workers, fanout = _processes(settings.workers, hardware)
    with work.progress(f"Counting {prefix.rstrip('_') or 'target'} tokens", texts.size, "bytes") as bar:
        return count_stream(
            texts.items(sides[""], bool(prefix), skipped),
            side.tokenizer,
            side.vocabulary,
            work.out / f".part-{prefix}counts",
            shard_bytes=settings.shard_bytes,
            on_bytes=bar.advance,
            workers=workers,
            fanout=fanout,
        )


def _processes(workers: int | None, hardware: HardwareConfig) -> tuple[int | None, MakeFanout]:
    """How many processes count beside this one, and how they are reached."""
    if hardware.backend == "local":
        return workers, Fanout
    from pipeline.count.ray import cluster_workers, ray_fanout  # here: Ray is an extra

    return workers or cluster_workers(hardware.address), ray_fanout(hardware.address)


def _count_ids(folder: Path, side: Checkpoint) -> Totals:
    """Generations are ids already; of the prompts, which the target did not write, nothing counts."""
    totals = Totals(side.vocabulary, methods={"ids": ""})
    for number, (_, new) in enumerate(generations.read(folder)):
        split = _split(number)
        totals.add(split, "generations", torch.bincount(new, minlength=side.vocabulary))
        totals.documents[split] += 1
        totals.bytes[split] += utf8_bytes(_text(side.tokenizer, new))
    return totals


def _split(number: int) -> corpora.Split:
    return "heldout" if number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 else "train"


def _text(tokenizer: PreTrainedTokenizerBase, ids: Tensor) -> str:
    return tokenizer.decode(ids.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _tensors(totals: Totals, domains: list[str]) -> dict[str, Tensor]:
    return {
        "counts": totals.sum("train"),
        "domains": totals.stacked(domains),
        "heldout_counts": totals.sum("heldout"),
    }


def _report(source: str, totals: Mapping[str, Totals], domains: list[str]) -> dict[str, object]:
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


def _announce(console: Console, texts: _Texts, sides: Mapping[str, Checkpoint], workers: int | None) -> None:
    if texts.corpus is None:
        return
    passes, held = len(sides), corpora.look(texts.corpus)
    size, processes = texts.size, workers or os.cpu_count() or 1
    how_long = "a stream of unknown length" if size is None else f"{megabytes(size)} MB"
    if size is not None:
        how_long += f", about {passes * size / 1e6 / MB_PER_SECOND / processes:,.0f} s on {processes} processes"
    say(console, f"counting {how_long}" + (f"; {held}" if held else ""))
    if "chats" in held and chat_format(sides[""]).template is None:
        say(console, "warning: the target has no chat template: the turns of chats are joined by blank lines")


def _say(console: Console, report: Mapping[str, Any]) -> None:
    say(
        console,
        f"{report['tokens']:,} tokens in {report['documents']:,} documents ({report['bytes'] / 1e6:,.1f} MB), "
        f"{report['distinct']:,} different ones; {report['heldout_tokens']:,} more held out",
    )
    if line := Skipped(**report["broken"]).line:
        say(console, line)
    if not report["heldout_documents"]:
        say(
            console,
            f"warning: none of {report['documents']:,} documents is held out (one of {HELD_OUT_EVERY} is, by its text): "
            "how much of unseen text is covered stays unknown; give more documents",
        )
    for name, methods in report["methods"].items():
        if "plain" in methods:
            say(console, f"{name}: every text encoded, the slow way: {methods['plain']}")


def inputs(cfg: DictConfig) -> dict[str, str]:
    """Generations, where those are counted."""
    return {"generate": "generate"} if cfg.count.source == "generations" else {}


def config(cfg: DictConfig) -> dict[str, object]:
    """All but the number of processes, which changes no count."""
    values = plain(cfg.count) | {"workers": None, "foreign": cfg.pair.foreign}
    return values | ({"corpus": corpora.key_values(corpus_of(cfg))} if cfg.count.source == "corpus" else {})


def external(cfg: DictConfig) -> dict[str, str]:
    """The models, for their tokenizers, and the corpus."""
    found = pair_external(cfg, *(("target",) if cfg.pair.foreign is False else ()))
    return found | (corpora.external(corpus_of(cfg)) if cfg.count.source == "corpus" else {})


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for settings that cannot work, before anything is loaded."""
    settings = cfg.count
    if settings.source not in SOURCES:
        raise ConfigError(f"count.source={settings.source}: choose one of: {', '.join(SOURCES)}")
    for name in ("workers", "max_bytes", "shard_bytes"):
        if settings[name] is not None and settings[name] < 1:
            raise ConfigError(f"count.{name}={settings[name]}: expected a whole number from 1, or null")
    if settings.source == "corpus":
        look(cfg, "corpus")


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
