"""What the stages affinity, tail and distill read: text in three parts, split by document, and both models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save
from torch import Tensor
from transformers import PreTrainedModel

from drafters.io.atomic import write_atomic
from drafters.models.devices import choose_device, choose_dtype
from drafters.models.forms import short_form
from drafters.models.model_folder import open_model, quiet
from drafters.models.pair import Checkpoint, open_checkpoint, pair_settings
from drafters.models.prune import load_pruned
from drafters.probs import Sampling
from drafters.vocab.alignment import VocabMap
from pipeline.errors import ConfigError
from pipeline.fit.teacher_forcing import windows
from pipeline.text import corpus, generations

PARTS = {"fit": 0.6, "calibrate": 0.2, "test": 0.2}  # of the tokens
TEST_TEXT = "test_text.safetensors"
SOURCES = ("corpus", "generations")
Window = tuple[int, Tensor]  # the document's number, int64 (n,)


class TextShortage(ConfigError):
    """The corpus is too small to be split by document."""


class TextSettings(Protocol):
    """What a stage's configuration says of its text."""

    source: str  # corpus | generations: the target's own text, made by the stage generate
    tokens: int  # all parts together
    window: int  # tokens read at once
    windows_per_document: int


@dataclass(frozen=True)
class Reading:
    """Both models, opened, with the text that they read."""

    target: PreTrainedModel
    drafter: PreTrainedModel  # D columns
    checkpoint: Checkpoint  # of the unpruned drafter
    kept: Tensor  # int64 (D,)
    vocab: VocabMap
    texts: dict[str, list[Window]]  # by part
    sampling: Sampling  # that will be served


def open_reading(cfg: DictConfig, settings: Any, inputs: dict[str, Path]) -> Reading | str:
    """Models and text of the pair whose pruned drafter lies in ``inputs``; why not, where there is nothing to fit."""
    folder = inputs.get("drafter", inputs["prune"])
    maps = load_file(folder / "vocab.safetensors")
    vocab = VocabMap(maps["to_target"], maps["to_drafter"])
    pair = pair_settings(cfg.pair)
    target, drafter = open_checkpoint("target", pair), open_checkpoint("drafter", pair)
    if target.tokenizer.get_vocab() != drafter.tokenizer.get_vocab():
        return "the tokenizers differ: laws cannot be compared token by token"
    if not bool((vocab.to_drafter < 0).any()):
        return "nothing was pruned"
    where = choose_device(cfg.device)
    number = choose_dtype(cfg.dtype, where)
    try:
        texts = parts(documents(cfg, settings, target.tokenizer, inputs), settings)
    except TextShortage as error:  # a small corpus is no reason to stop the pipeline
        return str(error)
    with quiet(always=True):
        big = open_model(target.source, target.config, number, where)
        small = load_pruned(folder / "model", dtype=number).to(where).eval().requires_grad_(False)
    package = cfg.package
    sampling = Sampling(package.temperature, package.top_k, package.top_p)
    return Reading(big, short_form(small), drafter, maps["kept"], vocab, texts, sampling)


def parts(sequences: Iterable[Tensor], settings: TextSettings) -> dict[str, list[Window]]:
    """Deal windows out by document until the parts have their tokens, or, of a text too short for that, by their shares."""
    every: list[list[Window]] = []
    found: dict[str, list[Window]] = {part: [] for part in PARTS}
    read = dict.fromkeys(PARTS, 0)
    for number, ids in enumerate(sequences):
        lacking = {part: PARTS[part] * settings.tokens - read[part] for part in PARTS}
        part = max(lacking, key=lacking.__getitem__)
        if lacking[part] <= 0:
            break
        cut = [(number, window) for _, window in windows([ids], settings.window, settings.windows_per_document)]
        found[part] += cut
        read[part] += sum(len(window) for _, window in cut)
        every.append(cut)
    return found if all(found.values()) else _by_shares(every, settings)


def _by_shares(documents: Iterable[list[Window]], settings: TextSettings) -> dict[str, list[Window]]:
    """All documents, each to the part that has least of its share. Raises TextShortage where fewer than three have text."""
    found: dict[str, list[Window]] = {part: [] for part in PARTS}
    for cut in documents:
        part = min(PARTS, key=lambda name: sum(len(window) for _, window in found[name]) / PARTS[name])
        found[part] += cut
    if not all(found.values()):
        raise TextShortage(
            f"text for {', '.join(PARTS)} is needed, expected at least {len(PARTS)} documents, got none for some: choose a larger "
            f"corpus (of each document {settings.windows_per_document} x {settings.window} tokens are read)"
        )
    return found


def documents(cfg: DictConfig, settings: TextSettings, tokenizer: Any, inputs: dict[str, Path]) -> Iterator[Tensor]:
    """int64 (n,) ids of each document, or of each of the target's own continuations with its prompt."""
    if settings.source == "generations":
        yield from (torch.cat([prompt, new]) for prompt, new in generations.read(inputs["generate"]))
        return
    room = 40 * settings.window * settings.windows_per_document  # characters: no token is as long on average
    for document in corpus.documents(corpus.corpus_config(cfg), "train"):
        ids = tokenizer(document.text[:room], add_special_tokens=False, verbose=False)["input_ids"]
        yield torch.tensor(ids, dtype=torch.int64)


def keep_test(folder: Path, reading: Reading) -> None:
    """Keep the ids that a stage's figures were measured on beside them, so that the packaged drafter can be held to them."""
    ids = [window for _, window in reading.texts["test"]]
    tensors = {"ids": torch.cat(ids), "sizes": torch.tensor([len(window) for window in ids])}
    write_atomic(folder / TEST_TEXT, save(tensors))


def read_test(folder: Path) -> list[Tensor]:
    """The windows, int64 (n,) each, that `keep_test` kept; none where the stage measured nothing."""
    path = folder / TEST_TEXT
    if not path.exists():
        return []
    found = load_file(path)
    return list(found["ids"].split(found["sizes"].tolist()))


def stage_inputs(cfg: DictConfig, name: str) -> dict[str, str]:
    """``prune``, the healed drafter where there is one, and the target's own text where stage ``name`` reads it."""
    healed = name != "distill" and OmegaConf.select(cfg, "distill.enabled", default=False)
    own = cfg[name].source == "generations"
    return {"prune": "prune"} | ({"drafter": "distill"} if healed else {}) | ({"generate": "generate"} if own else {})


def key_values(cfg: DictConfig, name: str) -> dict[str, Any]:
    """The settings of stage ``name``, the sampling that will be served, the text and the seed."""
    own: dict[str, Any] = OmegaConf.to_container(cfg[name], resolve=True)  # type: ignore[assignment]
    own.pop("enabled", None)
    served = {key: cfg.package[key] for key in ("temperature", "top_k", "top_p", "lookahead")}
    text = {} if cfg[name].source == "generations" else {"corpus": corpus.key_values(corpus.corpus_config(cfg))}
    return {**own, **served, **text, "seed": int(cfg.seed)}


def external(cfg: DictConfig, name: str) -> dict[str, str]:
    """Both models, and the text where it is a corpus."""
    found = {}
    for role in ("target", "drafter"):
        revision = cfg.pair.get(f"{role}_revision")
        found[role] = f"{cfg.pair[role]}@{revision}" if revision else str(cfg.pair[role])
    return found if cfg[name].source == "generations" else found | corpus.external(corpus.corpus_config(cfg))


def check(cfg: DictConfig, name: str) -> None:
    """Raise ConfigError for text settings that cannot work, before anything is loaded."""
    settings = cfg[name]
    if settings.source not in SOURCES:
        raise ConfigError(f"{name}.source={settings.source}: choose one of: {', '.join(SOURCES)}")
    for field, least in (("tokens", 100), ("window", 2), ("windows_per_document", 1)):
        if settings[field] < least:
            raise ConfigError(f"{name}.{field}={settings[field]}: expected a whole number from {least}")
