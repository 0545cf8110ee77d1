"""pretrain: a small target, a drafter distilled from it and a drafter of another tokenizer, from Python source on this machine.

This is how `drafters/zoo/pycode` was made. Everything is resumable: tokenizers, packed text and each training phase are kept in the
stage's directory until the end.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from pipeline.config.settings import plain, read
from pipeline.cut.layers import cut
from pipeline.fit.schedule import Schedule
from pipeline.pretraining.data import CODE_PATTERN, load_or_pack, train_tokenizer
from pipeline.pretraining.measure import bits_per_byte, ideal_speedup, mean_acceptance, step_seconds
from pipeline.pretraining.models import Shape, build, stack, widen
from pipeline.pretraining.phase import train
from pipeline.runner.stage import Context, Stage
from pipeline.text import python_source

MODELS = ("target", "drafter", "foreign")
Trained = tuple[LlamaForCausalLM, PreTrainedTokenizerBase]


@dataclass
class Optimisation:
    """Budgets of the four training phases."""

    seed_phase: Schedule = field(default_factory=lambda: Schedule(steps=100_000, minutes=30, decay=0.2))
    target: Schedule = field(default_factory=lambda: Schedule(steps=100_000, minutes=150))
    drafter: Schedule = field(default_factory=lambda: Schedule(steps=100_000, minutes=25, table_lr=0.005))
    foreign: Schedule = field(default_factory=lambda: Schedule(steps=100_000, minutes=8))


@dataclass
class PretrainConfig:
    """What to train on, the three shapes, the budgets. Sizes are tokens unless a name says otherwise."""

    vocabulary: int = 16384
    foreign_vocabulary: int = 4096
    context: int = 512
    batch: int = 8
    seed_layers: int = 4
    package_bytes: int = 8_000_000
    total_bytes: int = 96_000_000
    tokenizer_bytes: int = 40_000_000
    test_bytes: int = 400_000
    target: Shape = field(default_factory=lambda: Shape(16, 128, 4, 2, 352))
    drafter_layers: int = 1
    drafter_feed_forward: int = 1408  # wider than the target's: at these widths a layer's time hardly depends on it
    start: str | None = None  # folder of an earlier run's output: its models are trained on, its tokenizers kept
    foreign: Shape = field(default_factory=lambda: Shape(1, 128, 4, 2, 352))
    # Steps and minutes of each phase, whichever end first. On a CPU its own minutes count, those that it computed, per thread:
    # a machine that is busy with other work takes longer and trains as much
    optimisation: Optimisation = field(default_factory=Optimisation)


def run(context: Context) -> None:
    """Train what is not trained yet, measure, write `target/`, `drafter/`, `foreign/` and `provenance.json`."""
    config, work, seed = read(context.cfg.pretrain, PretrainConfig), context.out / "work", int(context.cfg.seed)
    work.mkdir(exist_ok=True)
    train_texts = [document.text for document in _documents(config, "train")]
    with context.progress("Training tokenizers", 2) as bar:
        main = _tokenizer(work / "tokenizer", "target", train_texts, config.vocabulary, CODE_PATTERN, config)
        bar.advance()
        other = _tokenizer(work / "foreign_tokenizer", "foreign", train_texts, config.foreign_vocabulary, None, config)
    with context.progress("Packing text", 2 * len(train_texts), "documents") as bar:
        ids = load_or_pack(work / "ids.npy", main, train_texts, bar.advance)
        foreign_ids = load_or_pack(work / "foreign_ids.npy", other, train_texts, bar.advance)
    context.console.print(f"training text: {len(ids):,} tokens, {len(foreign_ids):,} for the foreign drafter")
    spent: dict[str, dict[str, float]] = {}

    def phase(
        name: str,
        model: PreTrainedModel,
        tokens: np.ndarray,
        schedule: Schedule,
        teacher: PreTrainedModel | None = None,
    ) -> None:
        with context.progress(f"Training {name}", 1000, "per mille") as bar:
            folder = work / name
            spent[name] = train(
                model, tokens, schedule, folder,
                length=config.context, batch=config.batch, seed=seed, teacher=teacher, advance=bar.advance,
            )  # fmt: skip

    torch.manual_seed(seed)
    budget = config.optimisation
    if config.start is None:
        target = _grown_target(
            config, main.eos_token_id, lambda small: phase("seed_phase", small, ids, budget.seed_phase)
        )
    else:
        target = _earlier(config, "target")
    phase("target", target, ids, budget.target)
    drafter = cut(target, range(config.drafter_layers)) if config.start is None else _earlier(config, "drafter")
    drafter = widen(drafter, config.drafter_feed_forward)
    phase("drafter", drafter, ids, budget.drafter, teacher=target)
    if config.start is None:
        foreign = build(config.foreign, config.foreign_vocabulary, config.context, other.eos_token_id)
    else:
        foreign = _earlier(config, "foreign")
    phase("foreign", foreign, foreign_ids, budget.foreign)
    models = {"target": (target, main), "drafter": (drafter, main), "foreign": (foreign, other)}
    for name, (model, tokenizer) in models.items():
        model.to(torch.bfloat16).save_pretrained(context.out / name)
        tokenizer.save_pretrained(context.out / name)
        model.float()  # measured as it will be loaded: bf16 values in fp32 arithmetic
    with context.progress("Measuring the models", None):
        provenance = _provenance(config, seed, spent, models)
    if config.start is not None:
        provenance["continued_from"] = json.loads((Path(config.start) / "provenance.json").read_text())
    (context.out / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
    for line in json.dumps(provenance["measured"], indent=1).splitlines()[1:-1]:
        context.console.print(line)
    shutil.rmtree(work)


def _grown_target(
    config: PretrainConfig, end: int, train_small: Callable[[LlamaForCausalLM], None]
) -> LlamaForCausalLM:
    """The full-depth target, stacked from a shallow one that `train_small` trains first: the same text for less time."""
    shape = config.target
    shallow = Shape(config.seed_layers, shape.hidden, shape.heads, shape.kv_heads, shape.feed_forward)
    small = build(shallow, config.vocabulary, config.context, end)
    train_small(small)
    return stack(small, shape.layers)


def _earlier(config: PretrainConfig, name: str) -> LlamaForCausalLM:
    """A model of an earlier run, to train on."""
    return LlamaForCausalLM.from_pretrained(Path(config.start or "") / name, dtype=torch.float32, local_files_only=True)


def _documents(config: PretrainConfig, split: python_source.Split) -> list[python_source.Document]:
    return list(python_source.documents(split, config.package_bytes, config.total_bytes))


def _tokenizer(
    folder: Path, name: str, texts: list[str], size: int, pattern: str | None, config: PretrainConfig
) -> PreTrainedTokenizerBase:
    if config.start is not None:
        return PreTrainedTokenizerFast.from_pretrained(Path(config.start or "") / name)
    if not folder.exists():
        chosen, used = [], 0
        for text in texts:
            used += len(text)
            if used > config.tokenizer_bytes:
                break
            chosen.append(text)
        partial = folder.with_name(folder.name + ".tmp")
        train_tokenizer(chosen, size, pattern, config.context).save_pretrained(partial)
        partial.replace(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def _provenance(
    config: PretrainConfig, seed: int, spent: Mapping[str, Mapping[str, float]], models: Mapping[str, Trained]
) -> dict[str, object]:
    texts = [document.text for document in _documents(config, "test")]
    target, drafter = models["target"][0], models["drafter"][0]
    tokenizer = models["target"][1]
    acceptance = mean_acceptance(target, drafter, tokenizer, texts, config.test_bytes, config.context)
    t, d = step_seconds(target), step_seconds(drafter)
    measured = {
        f"bits_per_byte_{name}": bits_per_byte(pair[0], pair[1], texts, config.test_bytes, config.context)
        for name, pair in models.items()
    }
    measured |= {"acceptance": acceptance, "t_seconds": t, "d_seconds": d, "c": d / t}
    measured |= {"ideal_speedup": ideal_speedup(acceptance, d / t)}
    return {
        "made_by": "make pretrain",
        "seed": seed,
        "corpus": {
            split: {
                "sha256": python_source.fingerprint(split, config.package_bytes, config.total_bytes),
                "documents": len(docs := _documents(config, split)),
                "bytes": sum(len(document.text.encode()) for document in docs),
            }
            for split in ("train", "calibration", "test")
        },
        "training": spent,
        "parameters": {name: sum(p.numel() for p in model.parameters()) for name, (model, _) in models.items()},
        "measured": measured,
        "definitions": {
            "acceptance": "mean over test-split positions of sum_x min(p(x), q(x)), teacher-forced, temperature 1, full vocabulary",
            "c": "d / t: medians of one-token forwards after a 128-token context, batch 1, fp32",
            "ideal_speedup": "max over k of (1 - a^(k+1)) / ((1 - a)(1 + c k)) (Leviathan et al. 2023)",
        },
    }


def key_config(cfg: DictConfig) -> dict[str, object]:
    """The stage's settings, the seed and the training text: all that the weights depend on."""
    config, settings = cfg.pretrain, plain(cfg.pretrain)
    corpus = python_source.fingerprint("train", config.package_bytes, config.total_bytes)
    settings.pop("start")  # by content, not by path: see external
    return {**settings, "seed": int(cfg.seed), "corpus": corpus}


def external(cfg: DictConfig) -> dict[str, str]:
    """The earlier weights that training goes on from."""
    return {} if cfg.pretrain.start is None else {"start": str(cfg.pretrain.start)}


STAGE = Stage(name="pretrain", run=run, config=key_config, external=external)
