"""The drafters on trial with one target: the pair's own, the packaged one in both its forms, and any others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from drafters.engine.transformers_pair import full_map, pair_of
from drafters.models.devices import choose_device, choose_dtype
from drafters.models.heads import grow_embedding
from drafters.models.model_folder import open_model
from drafters.models.pair import ModelPair, match_vocabularies, open_checkpoint, vocabulary_size
from drafters.package.reader import Package
from drafters.vocab.texts import Texts, read_texts
from eval.run.configurations import Drafter
from eval.run.records import PACKAGE, TAILED, UNPRUNED


def lineup(
    settings: Mapping[str, Any],
    models: ModelPair,
    package: Package,
    others: Mapping[str, str],
    device: str,
    dtype: str,
    compile: bool = False,
) -> Iterator[Drafter]:
    """The unpruned drafter, the packaged one, the same with its tail, then `others`; all share the target of `models`.

    Args:
        settings: of the pair, see `drafters.models.pair.pair_settings`.
        others: name -> folder, or org/name@<40 hex digits>.
        compile: compile the forwards that recur, see `drafters.generate`.

    Raises:
        PackageError: a folder that is not there, not safe to load or not a causal LM.
        PairError: a drafter that does not fit the target.
    """
    made = partial(pair_of, compile=compile)
    yield Drafter(UNPRUNED, made(models), full_map(models), {"texts": _texts(models)})
    more = {"texts": _texts(models, package.kept), "affinity": package.affinity}
    yield Drafter(PACKAGE, made(models, package.drafter), package.vocab, more)
    if package.tailed is not None:
        wide = _texts(models, torch.arange(models.vocabulary))  # one column per target id, whatever pads the drafter
        yield Drafter(TAILED, made(models, package.tailed), package.tailed_vocab, {"texts": wide, "tail": True})
    for name, where in others.items():
        other = _with_drafter(settings, models, where, device, dtype)
        yield Drafter(str(name), made(other), full_map(other), {"texts": _texts(other)})


def _with_drafter(settings: Mapping[str, Any], models: ModelPair, where: str, device: str, dtype: str) -> ModelPair:
    """`models` with another drafter; the target is not loaded again."""
    folder, _, revision = where.partition("@")
    target = open_checkpoint("target", settings)
    theirs = open_checkpoint("drafter", {**settings, "drafter": folder, "drafter_revision": revision or None})
    match = match_vocabularies(target, theirs, None)
    place = choose_device(device)
    drafter = open_model(theirs.source, theirs.config, choose_dtype(dtype, place), place)
    return dataclasses.replace(
        models,
        drafter=drafter if match.foreign else grow_embedding(drafter, target.vocabulary),
        drafter_tokenizer=theirs.tokenizer,
        vocab=match.vocab,
        feed=match.feed,
        foreign=match.foreign,
        ids=(models.ids[0], theirs.source.id),
        revisions=(models.revisions[0], theirs.source.revision),
    )


def _texts(models: ModelPair, rows: Tensor | None = None) -> Callable[[], Texts]:
    """What the ids of a pair spell, found out once and only for samplers that ask; rows int64 (D,) of the head, None: all."""
    own = vocabulary_size(models.drafter.config)
    size = own if models.foreign else max(own, models.vocabulary)
    kept = torch.arange(own) if rows is None else rows
    return cache(partial(read_texts, models.target_tokenizer, models.drafter_tokenizer, models.vocabulary, size, kept))
