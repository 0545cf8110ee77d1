"""What the stages affinity, tail and distill read: text in three parts, split by document, and both models."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file, save
from torch import Tensor
from transformers import PreTrainedModel

from drafters.io.atomic import write_atomic
from drafters.models.devices import choose_device, choose_dtype
from drafters.models.forms import short_form
from drafters.models.heads import grow_embedding
from drafters.models.model_folder import open_model, quiet
from drafters.models.pair import Checkpoint, match_vocabularies, open_checkpoint
from drafters.models.prune import VOCAB_FILE, load_pruned
from drafters.probs import Sampling
from drafters.vocab.alignment import VocabMap
from pipeline.config.text_settings import Source
from pipeline.errors import ConfigError
from pipeline.fit.teacher_forcing import windows
from pipeline.text import corpus, generations
from pipeline.text.chat_format import chat_format
from pipeline.text.corpus import CorpusConfig

PARTS = {"fit": 0.6, "calibrate": 0.2, "test": 0.2}  # of the tokens
TEST_TEXT = "test_text.safetensors"
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
    pruned: Tensor  # int64 (O,) tokens that the unpruned drafter could say besides, ascending
    vocab: VocabMap
    texts: dict[str, list[Window]]  # by part
    sampling: Sampling  # that will be served


def open_reading(source: Source, settings: TextSettings) -> Reading | str:
    """Models and text of a pair whose drafter is pruned; why not, where there is nothing to fit. Raises as `open_checkpoint` does."""
    maps = load_file(source.folder / VOCAB_FILE)
    vocab = VocabMap(maps["to_target"], maps["to_drafter"])
    target, drafter = (open_checkpoint(role, source.pair) for role in ("target", "drafter"))
    match = match_vocabularies(target, drafter, source.pair["foreign"])
    if match.foreign:
        return "the vocabularies differ: laws cannot be compared token by token"
    pruned = ((match.tokens.to_drafter >= 0) & (vocab.to_drafter < 0)).nonzero().flatten()
    if not len(pruned):
        return "nothing was pruned"
    where = choose_device(source.device)
    number = choose_dtype(source.dtype, where)
    try:
        texts = parts(documents(source.text, settings, target), settings)
    except TextShortage as error:  # a small corpus is no reason to stop the pipeline
        return str(error)
    with quiet(always=True):
        big = open_model(target.source, target.config, number, where)
        small = load_pruned(source.folder / "model", dtype=number).to(where).eval().requires_grad_(False)
        grow_embedding(small, target.vocabulary)
    return Reading(big, short_form(small), drafter, maps["kept"], pruned, vocab, texts, source.sampling)


def open_unpruned(reading: Reading) -> PreTrainedModel:
    """Open the drafter as it was before anything was pruned; it reads every id of the target."""
    own = reading.checkpoint
    full = open_model(own.source, own.config, reading.drafter.dtype, reading.drafter.device)
    return grow_embedding(full, len(reading.vocab.to_drafter))


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


def documents(text: CorpusConfig | Path, settings: TextSettings, target: Checkpoint) -> Iterator[Tensor]:
    """int64 (n,) ids of each document, of chats all turns, or of each of the target's own continuations with its prompt."""
    if isinstance(text, Path):
        yield from (torch.cat([prompt, new]) for prompt, new in generations.read(text))
        return
    room = 40 * settings.window * settings.windows_per_document  # characters: no token is as long on average
    for document in corpus.documents(text, "train", chat_format(target)):
        ids = target.tokenizer(document.reading[:room], add_special_tokens=False, verbose=False)["input_ids"]
        yield torch.tensor(ids, dtype=torch.int64)


def carry(folder: Path, out: Path) -> None:
    """The drafter in ``folder``, in prune's layout, as a part of ``out``: linked where the disk can, as nothing is changed."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_dir() or name.as_posix() == "manifest.json" or (out / name).exists():
            continue
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, out / name)
        except OSError:
            shutil.copyfile(path, out / name)


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
