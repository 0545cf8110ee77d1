"""Prompts to trace and their split: by document or by prompt, never within one."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from eval.suites import suite as suites
from eval.suites.suite import SuiteConfig
from pipeline.errors import ConfigError
from pipeline.text import corpus
from pipeline.text.chat_format import ChatFormat
from pipeline.text.corpus import CorpusConfig

SPLITS = ("train", "validation", "test")
CHARACTERS_PER_TOKEN = 8  # more than any text has


@dataclass(frozen=True)
class Prompt:
    """A prompt that the target continues, with the group that no split divides."""

    group: str  # prompts of one document share it: a split takes all or none of them
    ids: Tensor  # int64 (n,)


@dataclass(frozen=True)
class Pieces:
    """Which prompts are taken of a text."""

    requests: int  # at most
    prefix_tokens: int  # of a piece of a document
    per_document: int  # pieces


def prompts(
    source: SuiteConfig | CorpusConfig, pieces: Pieces, tokenizer: PreTrainedTokenizerBase, room: int | None, seed: int
) -> list[Prompt]:
    """The prompts of a suite, or pieces of a corpus, at most `room` tokens each; of chats, what the target answers first.

    Raises ConfigError where there are none.
    """
    if isinstance(source, SuiteConfig):
        chosen = suites.load(source, tokenizer, seed=seed)[: pieces.requests]
        found = [Prompt(prompt.id, suites.encode(prompt, tokenizer, room)) for prompt in chosen]
    else:
        length = pieces.prefix_tokens if room is None else min(pieces.prefix_tokens, room)
        found = list(islice(_windows(source, tokenizer, length, room, pieces.per_document), pieces.requests))
    if not found:
        kind = "suite" if isinstance(source, SuiteConfig) else "corpus"
        raise ConfigError(f"traces.prompts={kind}: no prompts; choose another corpus or suite")
    return found


def _windows(
    source: CorpusConfig, tokenizer: PreTrainedTokenizerBase, length: int, room: int | None, per_document: int
) -> Iterator[Prompt]:
    """Pieces of held-out documents, which no prior and no drafter was fitted to, each from the beginning of a line."""
    for document in corpus.documents(source, "heldout", ChatFormat(tokenizer)):
        digest = hashlib.sha256(document.text.encode()).digest()
        if document.prompt:
            yield Prompt(digest.hex()[:16], suites.ids_of_rendered(document.prompt, tokenizer, room))
            continue
        for number in range(per_document):
            place = int.from_bytes(digest[4 * number : 4 * number + 4], "big") % max(1, len(document.text))
            line = document.text.rfind("\n", 0, place) + 1
            ids = tokenizer.encode(document.text[line : line + CHARACTERS_PER_TOKEN * length])[:length]
            if len(ids) == length:
                yield Prompt(digest.hex()[:16], torch.tensor(ids, dtype=torch.int64))


def split(groups: Sequence[str], validation: float, test: float, seed: int) -> dict[str, str]:
    """Group -> split. `validation` and `test`: groups from 1 on, or a share of them below 1; at least one each if above 0.

    Raises ConfigError where nothing is left to train on.
    """
    order = sorted(set(groups))
    random.Random(seed).shuffle(order)
    sizes = [0 if not part else max(1, round(part if part >= 1 else part * len(order))) for part in (validation, test)]
    if sum(sizes) >= len(order):
        raise ConfigError(
            f"traces: {sizes[0]} validation and {sizes[1]} test prompts (or documents) of {len(order)} leave none to train on; "
            "raise traces.requests, or lower traces.validation and traces.test"
        )
    names = ["validation"] * sizes[0] + ["test"] * sizes[1]
    return dict(zip(order, names + ["train"] * (len(order) - len(names)), strict=True))


def split_hashes(parts: dict[str, str]) -> dict[str, str]:
    """Split -> hash of its groups: two trainings with the same hashes saw, and held out, the same text."""
    return {
        name: hashlib.sha256("\n".join(sorted(g for g, part in parts.items() if part == name)).encode()).hexdigest()
        for name in SPLITS
    }


def room(max_new_tokens: int, contexts: tuple[int | None, int | None], expansion: int) -> int | None:
    """Tokens that a prompt may have in both models; None: no limit. Raises ConfigError where none are left.

    `expansion`: most drafter tokens that one target token is fed as.
    """
    target, drafter = contexts
    limits = [limit for limit in (target, drafter and drafter // expansion) if limit is not None]
    if not limits:
        return None
    if (left := min(limits) - max_new_tokens) < 1:
        raise ConfigError(
            f"traces.max_new_tokens={max_new_tokens}: the smaller context holds {min(limits)} tokens of the target, "
            f"prompt included; set it below {min(limits)}"
        )
    return left
