"""The documents that a cut drafter is trained on, and those that it is measured on: the target's own text, split by prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from pipeline.errors import ConfigError
from pipeline.text import generations

Part = Literal["fit", "calibrate", "test"]


@dataclass(frozen=True)
class Document:
    """A prompt and what the target says to it, cut off at a window."""

    ids: Tensor  # int64 (n,)
    prompt: int  # tokens of the prompt among them
    part: Part

    @property
    def answer(self) -> slice:
        """Positions whose next token is the target's own: where drafts are verified."""
        return slice(min(self.prompt, len(self.ids) - 1) - 1, len(self.ids) - 1)


def documents(folders: Sequence[Path], window: int, held_out: float) -> Iterator[Document]:
    """Documents of `generate`'s folders, each up to ``window`` tokens; those without two tokens are left out.

    Args:
        held_out: share of the prompts kept from training; half of them stop it (calibrate), the others say what it is worth (test).
    """
    for folder in folders:
        for prompt, new in generations.read(folder):
            ids = torch.cat([prompt, new])[:window]
            if len(ids) > 1:
                yield Document(ids, min(len(prompt), len(ids)), part_of(prompt, held_out))


def part_of(prompt: Tensor, held_out: float) -> Part:
    """Return the part of a prompt, by its ids alone: two answers to one prompt are never in two parts."""
    digest = hashlib.sha256(prompt.long().numpy().tobytes()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place >= held_out:
        return "fit"
    return "calibrate" if place < held_out / 2 else "test"


def parts_of(found: Sequence[Document], held_out: float, check_tokens: int) -> dict[str, list[int]]:
    """Return the numbers of the documents of each part; to measure on, no more than have ``check_tokens`` of answers.

    Raises ConfigError where no prompt falls into one of them.
    """
    if not found:
        raise ConfigError(
            "cut: no text: the folders of cut.more_text hold no shards; set cut.own_text=true, or run stage=generate"
        )
    parts: dict[str, list[int]] = {"fit": [], "calibrate": [], "test": []}
    read = dict.fromkeys(parts, 0)
    for number, document in enumerate(found):
        if document.part == "fit" or read[document.part] < check_tokens:
            parts[document.part].append(number)
            read[document.part] += document.answer.stop - document.answer.start
    if empty := [part for part, numbers in parts.items() if not numbers]:
        raise ConfigError(
            f"cut: of {len(found)} answers cut.held_out={held_out:g} leaves none for {', '.join(empty)}; answers to equal "
            "prompts stay together: raise cut.held_out, or generate.requests with a corpus of more prompts"
        )
    return parts


def groups(texts: Iterable[Document], size: int = 32) -> Iterator[list[Document]]:
    """Documents in groups of ``size``, the last one smaller: what is read by the teacher and written at once."""
    group: list[Document] = []
    for document in texts:
        group.append(document)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
