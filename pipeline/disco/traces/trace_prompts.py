"""Prompts to trace and their split: by document or by prompt, never within one."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from drafters.io.paths import REPOSITORY
from eval.suites import suite as suites
from pipeline.errors import ConfigError
from pipeline.runner.discovery import suggest
from pipeline.text import corpus

CONF = REPOSITORY / "conf"
SPLITS = ("train", "validation", "test")
CHARACTERS_PER_TOKEN = 8  # more than any text has


@dataclass(frozen=True)
class Prompt:
    """A prompt that the target continues, with the group that no split divides."""

    group: str  # prompts of one document share it: a split takes all or none of them
    ids: Tensor  # int64 (n,)


def prompts(cfg: DictConfig, tokenizer: PreTrainedTokenizerBase, room: int | None) -> list[Prompt]:
    """The prompts of `cfg.traces`, at most `room` tokens each. Raises ConfigError where there are none."""
    settings = cfg.traces
    if settings.prompts == "suite":
        chosen = suites.load(suite_values(cfg), tokenizer, seed=cfg.seed)
        found = [Prompt(prompt.id, suites.encode(prompt, tokenizer, room)) for prompt in chosen[: settings.requests]]
    else:
        length = settings.prefix_tokens if room is None else min(settings.prefix_tokens, room)
        found = list(islice(_windows(cfg, tokenizer, length), settings.requests))
    if not found:
        raise ConfigError(f"traces.prompts={settings.prompts}: no prompts; choose another corpus or suite")
    return found


def _windows(cfg: DictConfig, tokenizer: PreTrainedTokenizerBase, length: int) -> Iterator[Prompt]:
    """Pieces of held-out documents, which no prior and no drafter was fitted to, each from the beginning of a line."""
    for document in corpus.documents(corpus.corpus_config(cfg), "heldout"):
        digest = hashlib.sha256(document.text.encode()).digest()
        for number in range(cfg.traces.per_document):
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


def suite_values(cfg: DictConfig) -> dict[str, Any]:
    """The composed suite as a plain mapping. Raises ConfigError without one."""
    if cfg.get("suite") is None:
        raise ConfigError("no suite: choose one of conf/suite, e.g. suite=pycode")
    values: Any = OmegaConf.to_container(cfg.suite, resolve=True, throw_on_missing=True)
    return {str(name): value for name, value in values.items()}


def suite_external(cfg: DictConfig) -> dict[str, str]:
    """Where the suite's rows come from, for `Stage.external`."""
    suite = suites.suite_config(suite_values(cfg))
    if suite.path is None:
        return {"suite": f"{suite.hub}@{suite.revision}"}
    embedded = suites.EMBEDDED / suite.path
    return {"suite": str(embedded if embedded.is_file() else suite.path)}


def named_suite(name: str, path: str | None) -> suites.SuiteConfig:
    """A file of conf/suite, its rows from `path` where one is given. Raises ConfigError for an unknown name."""
    folder = CONF / "suite"
    if not (folder / f"{name}.yaml").is_file():
        known = [file.stem for file in folder.glob("*.yaml")]
        raise ConfigError(f"train_disco.suites.{name}: no such suite; {suggest(name, known)}")
    values: Any = OmegaConf.to_container(OmegaConf.load(folder / f"{name}.yaml"), resolve=True)
    return suites.suite_config(values | ({"path": path} if path else {}))


def room(cfg: DictConfig, contexts: tuple[int | None, int | None], expansion: int) -> int | None:
    """Tokens that a prompt may have in both models; None: no limit. Raises ConfigError where none are left.

    `expansion`: most drafter tokens that one target token is fed as.
    """
    target, drafter = contexts
    limits = [limit for limit in (target, drafter and drafter // expansion) if limit is not None]
    if not limits:
        return None
    if (left := min(limits) - cfg.traces.max_new_tokens) < 1:
        raise ConfigError(
            f"traces.max_new_tokens={cfg.traces.max_new_tokens}: the smaller context holds {min(limits)} tokens of the target, "
            f"prompt included; set it below {min(limits)}"
        )
    return left
