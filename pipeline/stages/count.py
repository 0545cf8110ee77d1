"""count: exact token counts of a corpus, or of the target's own generations, for every later vocabulary size at once.

``counts.safetensors``, all int64: ``counts`` (V,), ``domains`` (n_domains, V) in the order of the report's names, and
``heldout_counts`` (V,), of documents that are in neither: what a choice made by `counts` covers of text it has not
seen. Where the drafter has another tokenizer, the same texts counted with it: ``drafter_counts``, ``drafter_domains``,
``drafter_heldout_counts``. Of the target's own text also ``law``, float64 (V,): the tokens that the target's laws at
``law_positions`` of it expect. ``documents.safetensors`` holds a sample of the documents, by which `prune` judges its choice.
A stream is counted in shards; a rerun skips the finished ones.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from safetensors.torch import save
from torch import Tensor

from drafters.io.atomic import write_atomic, write_json
from drafters.io.safe_load import read_json
from drafters.models.pair import Checkpoint, match_vocabularies, open_checkpoint
from drafters.probs import Sampling
from eval.run.progress import bytes_in_words
from eval.suites.row_files import Skipped
from pipeline.config.settings import corpus_of, hardware_of, look, pair_of, plain, read
from pipeline.count.law import LAW
from pipeline.count.own_text import Rereading, read_law
from pipeline.count.shards import Totals
from pipeline.count.texts import Counting, Texts
from pipeline.errors import ConfigError
from pipeline.generate.target import VLLM
from pipeline.runner.stage import Context, Stage, pair_external, say
from pipeline.text import corpus as corpora
from pipeline.text.chat_format import chat_format

SOURCES = ("corpus", "generations")
MOST_DOMAINS = 8  # that are said on the screen
MB_PER_SECOND = 5.0  # of one process, for the estimate that is printed; measured on Python source with a 50k vocabulary


@dataclass
class CountConfig:
    """The settings of stage=count: which text is counted, and in what portions."""

    # corpus | generations: the target's own text, made by the stage generate
    source: str = "corpus"
    workers: int | None = None  # processes; null: all cores
    max_bytes: int | None = None  # of the corpus, held-out part included; null: all of it
    shard_bytes: int = 256_000_000  # what a kill costs at most
    # Of the target's own text, about as many tokens (of half the requests at most) are read by the target once more: its laws there
    # rank the tokens that hardly occur. 0: none
    law_tokens: int = 8192


def run(context: Context) -> None:
    """Count, write the counts, say how much text it was."""
    settings, out = read(context.cfg.count, CountConfig), context.out
    if not (out / "report.json").exists():  # written last: all that is left after it is to remove the parts
        texts = _texts(context, settings)
        sides = _sides(pair_of(context.cfg))
        _announce(context.console, texts, sides, settings.workers)
        broken = {prefix: Skipped() for prefix in sides}
        how, hardware = _rereading(context.cfg), hardware_of(context.cfg)
        counted = Counting(context, texts, sides, hardware, settings.workers, settings.shard_bytes, how.tokens)
        totals = {prefix: counted.count(prefix, broken[prefix]) for prefix in sides}
        if not int(totals[""].sum("train").sum()):
            raise ConfigError(f"count.source={settings.source}: it holds no tokens; choose another corpus")
        domains = sorted(totals[""].rows["train"])
        tensors = {
            prefix + name: row for prefix, part in totals.items() for name, row in _tensors(part, domains).items()
        }
        counted.write_sample()
        positions = 0
        if counted.read:
            tensors[LAW], positions = read_law(context, context.inputs["generate"], sides[""], counted.read, how)
        write_atomic(out / "counts.safetensors", save(tensors))
        report = _report(settings.source, totals, domains) | {"law_positions": positions, "broken": asdict(broken[""])}
        write_json(out / "report.json", report)
    for part in out.glob(".part-*"):
        part.unlink()
    _say(context.console, read_json(out, "report.json"))


def _texts(context: Context, settings: CountConfig) -> Texts:
    if settings.source == "generations":
        return Texts(None, context.inputs["generate"], settings.max_bytes)
    return Texts(corpus_of(context.cfg), None, settings.max_bytes)


def _rereading(cfg: DictConfig) -> Rereading:
    """How the target reads its own text again: not where a server held it, as it need not fit here."""
    if cfg.count.source != "generations" or cfg.generate.backend == VLLM or not cfg.count.law_tokens:
        return Rereading(0, Sampling(), "", "")
    sampling = Sampling(*(cfg.generate[name] for name in ("temperature", "top_k", "top_p")))
    return Rereading(int(cfg.count.law_tokens), sampling, str(cfg.device), str(cfg.dtype))


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
        "domain_tokens": [int(target.rows["train"][name].sum()) for name in domains],
        "heldout_tokens": int(target.sum("heldout").sum()),
        "heldout_documents": target.documents["heldout"],
        "distinct": int((target.sum("train") > 0).sum()),
        "methods": {f"{prefix}counts": part.methods for prefix, part in totals.items()},
    }


def _announce(console: Console, texts: Texts, sides: Mapping[str, Checkpoint], workers: int | None) -> None:
    if texts.corpus is None:
        return
    passes, held = len(sides), corpora.look(texts.corpus)
    size, processes = texts.size, workers or os.cpu_count() or 1
    how_long = "a stream of unknown length" if size is None else f"{bytes_in_words(size)}"
    if size is not None:
        how_long += f", about {passes * size / 1e6 / MB_PER_SECOND / processes:,.0f} s on {processes} processes"
    say(console, f"counting {how_long}" + (f"; {held}" if held else ""))
    if "chats" in held and chat_format(sides[""]).template is None:
        say(console, "warning: the target has no chat template: the turns of chats are joined by blank lines")


def _say(console: Console, report: Mapping[str, Any]) -> None:
    say(
        console,
        f"{report['tokens']:,} tokens in {report['documents']:,} documents ({bytes_in_words(report['bytes'])}), "
        f"{report['distinct']:,} different ones; {report['heldout_tokens']:,} more held out",
    )
    if len(report["domains"]) > 1:
        parts = sorted(zip(report["domain_tokens"], report["domains"], strict=True), reverse=True)
        more = f" and {len(parts) - MOST_DOMAINS} more" if len(parts) > MOST_DOMAINS else ""
        say(console, f"domains: {', '.join(f'{name} {tokens:,}' for tokens, name in parts[:MOST_DOMAINS])}{more}")
    if positions := report["law_positions"]:
        say(console, f"the target's law read at {positions:,} positions")
    if line := Skipped(**report["broken"]).line:
        say(console, line)
    if not report["heldout_documents"]:
        say(
            console,
            f"warning: none of {report['documents']:,} documents is held out (one of {corpora.HELD_OUT_EVERY} is, by its text): "
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
    values = plain(cfg.count) | {"workers": None, "foreign": cfg.pair.foreign} | {"law_tokens": 0}
    if (how := _rereading(cfg)).tokens:
        values |= {"law_tokens": how.tokens, "sampling": asdict(how.sampling)}
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
    if settings.law_tokens < 0:
        raise ConfigError(f"count.law_tokens={settings.law_tokens}: expected a whole number from 0")
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
