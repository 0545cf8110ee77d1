"""A target and a drafter, loaded safely, with everything about the two that the rest of the library asks for."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from drafters.errors import DraftersError
from drafters.io.hub import Source, resolve
from drafters.io.safe_load import TensorInfo
from drafters.models import quantised
from drafters.models.architecture import open_config
from drafters.models.devices import choose_device, choose_dtype, must_shard
from drafters.models.model_folder import (
    PATTERNS,
    check_model_folder,
    folder_notes,
    open_generation_config,
    open_model,
    open_tokenizer,
)
from drafters.vocab.alignment import VocabMap, align, same_vocabulary
from drafters.vocab.feed import FeedTable, feed_table
from drafters.vocab.spelling import spelling

FIELDS = ("name", "target", "drafter", "target_revision", "drafter_revision", "foreign")


class PairError(DraftersError):
    """Two models that cannot be a pair, or settings that name none."""


@dataclass(frozen=True)
class ModelPair:
    """Both models on their devices, in evaluation mode; of every field in twos, the target comes first.

    ``vocab`` is None where row d of the drafter's head is target id d and both heads are equally long; otherwise it
    maps the drafter's head rows, D of them, to the V target ids. ``feed`` is None for one shared tokenizer.
    """

    target: PreTrainedModel
    drafter: PreTrainedModel
    target_tokenizer: PreTrainedTokenizerBase
    drafter_tokenizer: PreTrainedTokenizerBase
    vocab: VocabMap | None
    feed: FeedTable | None
    foreign: bool  # the tokenizers differ
    ids: tuple[str, str]
    revisions: tuple[str | None, str | None]
    eos: tuple[int, ...]  # target ids that end a text

    @property
    def dtypes(self) -> tuple[torch.dtype, torch.dtype]:
        """The dtypes of the two models' weights."""
        return self.target.dtype, self.drafter.dtype

    @property
    def vocabulary(self) -> int:
        """V: columns of the target's logits, padding included."""
        return vocabulary_size(self.target.config)

    @property
    def context_lengths(self) -> tuple[int | None, int | None]:
        """Positions each model was built for; None where its config sets no limit."""
        return context_length(self.target.config), context_length(self.drafter.config)

    def drafter_prompt(self, ids: Tensor) -> Tensor:
        """A prompt of target ids, int64 (n,), as the drafter reads it, int64 (m,), m >= 1.

        One tokenizer: the same ids. Two: the text, encoded once by the drafter's own tokenizer; specials go by role,
        one without a counterpart is left out (heterogeneous vocabularies, arXiv 2502.05202). Raises PairError when
        nothing is left that the drafter can read.
        """
        if not self.foreign or self.vocab is None:
            return ids
        return _foreign_prompt(self, self.vocab, ids)


def load_pair(
    cfg: Mapping[str, Any] | None = None, *, device: str = "auto", dtype: str = "auto", **fields: Any
) -> ModelPair:
    """Load the two models of a pair.

    Args:
        cfg: ``target`` and ``drafter``, each a local folder or a Hub id with ``target_revision`` / ``drafter_revision``
            (40 hex digits); ``foreign``: the tokenizers differ, None to find out. ``fields`` take precedence over it.
        device: auto, cpu, cuda or mps. dtype: auto, fp32 or bf16; auto is fp32 but on cuda.

    Raises:
        PackageError: a folder that is not there, not safe to load or not a causal LM, or a Hub that cannot be reached.
        PairError: models that do not fit together. DeviceError: no such device.
    """
    where = choose_device(device)
    number = choose_dtype(dtype, where)
    settings = pair_settings(cfg, **fields)
    ours, theirs = open_checkpoint("target", settings), open_checkpoint("drafter", settings)
    vocab, feed, foreign = match_vocabularies(ours, theirs, settings["foreign"])
    sharded = must_shard(ours.weight_bytes(number), where)
    return ModelPair(
        target=open_model(ours.source, ours.config, number, where, sharded),
        drafter=open_model(theirs.source, theirs.config, number, where),
        target_tokenizer=ours.tokenizer,
        drafter_tokenizer=theirs.tokenizer,
        vocab=vocab,
        feed=feed,
        foreign=foreign,
        ids=(ours.source.id, theirs.source.id),
        revisions=(ours.source.revision, theirs.source.revision),
        eos=ours.eos,
    )


@dataclass(frozen=True)
class Checkpoint:
    """One model of a pair, checked and opened up to its weights."""

    source: Source
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    eos: tuple[int, ...]  # see `eos_ids`
    tensors: Mapping[str, TensorInfo]  # what its weights files hold
    notes: tuple[str, ...]  # what its makers left in its files; see `folder_notes`

    @property
    def vocabulary(self) -> int:
        """Columns of its logits, padding included."""
        return vocabulary_size(self.config)

    @property
    def parameters(self) -> int:
        """Numbers in its weights files; a quantised one packs several into some."""
        return sum(info.numel for info in self.tensors.values())

    def weight_bytes(self, dtype: torch.dtype) -> int:
        """Bytes of its weights once they are in memory; a quantised model's stay as they are stored."""
        if quantised.method(self.config) is not None:
            return sum(info.bytes for info in self.tensors.values())
        return self.parameters * dtype.itemsize


def open_checkpoint(role: str, settings: Mapping[str, Any]) -> Checkpoint:
    """The ``target`` or ``drafter`` of `pair_settings`, without its weights.

    Raises:
        PackageError: a folder that is not there, not safe to load or not a causal LM, a quantised drafter, or a Hub that
            cannot be reached.
        PairError: a tokenizer or EOS id for which the model has no row.
    """
    fix = f"Give a local model folder with pair.{role}=DIR."
    source = resolve(settings[role], settings[f"{role}_revision"], PATTERNS, fix)
    tensors = check_model_folder(source)
    config = open_config(source, fix)
    if role == "drafter":
        quantised.check_drafter(config)
    tokenizer = open_tokenizer(source, fix)
    used, rows = max(tokenizer.get_vocab().values(), default=-1) + 1, vocabulary_size(config)
    if used > rows:
        raise PairError(
            f"the tokenizer of the {role} {source.id} uses ids up to {used - 1}, but the model has {rows} embedding "
            f"rows: the two do not belong together; check pair.{role}"
        )
    eos = eos_ids(config, open_generation_config(source), tokenizer)
    return Checkpoint(source, config, tokenizer, eos, tensors, folder_notes(source, config))


def eos_ids(
    config: PreTrainedConfig,
    generation: GenerationConfig | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> tuple[int, ...]:
    """Every id that ends a text, without repeats: generation_config's first, then config's, then the tokenizer's.

    Each of the three may hold an int, a list or nothing. transformers' generate stops on the first source alone;
    taking all three makes a model without a generation_config stop too. Raises PairError for an id that the model
    has no row for.
    """
    sources = (
        None if generation is None else generation.eos_token_id,
        getattr(config.get_text_config(), "eos_token_id", None),
        None if tokenizer is None else tokenizer.eos_token_id,
    )
    lists = [value if isinstance(value, list) else [value] for value in sources if value is not None]
    found = [token for tokens in lists for token in tokens]
    size = vocabulary_size(config)
    if bad := [token for token in found if not isinstance(token, int) or not 0 <= token < size]:
        raise PairError(
            f"eos_token_id of a {config.model_type} model holds {bad}, expected ids from 0 to {size - 1}: "
            "correct its generation_config.json or config.json"
        )
    return tuple(dict.fromkeys(found))


def vocabulary_size(config: PreTrainedConfig) -> int:
    """Columns of a model's logits."""
    return int(config.get_text_config().vocab_size)


def context_length(config: PreTrainedConfig) -> int | None:
    """Positions a model was built for (``max_position_embeddings`` or its family's name for it); None: no limit."""
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else None


def _foreign_prompt(pair: ModelPair, vocab: VocabMap, ids: Tensor) -> Tensor:
    tokenizer = pair.drafter_tokenizer
    special = set(pair.target_tokenizer.all_special_ids)
    pieces: list[int] = []
    run: list[int] = []

    def flush() -> None:
        if run:
            text = pair.target_tokenizer.decode(run, clean_up_tokenization_spaces=False)
            pieces.extend(tokenizer.encode(text, add_special_tokens=False))
            run.clear()

    for token in ids.tolist():
        if token not in special:
            run.append(token)
            continue
        flush()
        if (row := int(vocab.to_drafter[token])) >= 0:
            pieces.append(row)
    flush()
    # The drafter was trained with its own opening token, whatever the target's convention is.
    opening = [token for token in tokenizer.encode("")[:1] if token in tokenizer.all_special_ids]
    if opening and pieces[:1] != opening:
        pieces = opening + pieces
    if not pieces:
        raise PairError(
            f"the drafter's tokenizer {tokenizer.name_or_path!r} has no token for any character of the prompt and adds "
            "no opening token: choose a drafter that knows this text"
        )
    return torch.tensor(pieces, dtype=torch.int64, device=ids.device)


def pair_settings(cfg: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """One value, perhaps None, for each of FIELDS; ``fields`` take precedence over ``cfg``.

    Raises PairError for an unknown field, or when target or drafter is not given.
    """
    given = {**{str(key): value for key, value in (cfg or {}).items()}, **fields}
    for key in given:
        if key not in FIELDS:
            near = difflib.get_close_matches(key, FIELDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise PairError(f"unknown pair setting {key!r}; known: {', '.join(FIELDS)}{hint}")
    for role in ("target", "drafter"):
        if not given.get(role):
            raise PairError(f"pair.{role} is not set: give a local model folder or a Hub id, pair.{role}=DIR")
    return {key: given.get(key) for key in FIELDS}


def match_vocabularies(
    target: Checkpoint, drafter: Checkpoint, foreign: bool | None
) -> tuple[VocabMap | None, FeedTable | None, bool]:
    """Vocabulary map, feed table and whether the tokenizers differ; ``foreign`` is what the user says of that, None
    nothing.

    Raises PairError when they differ and the user said that they do not.
    """
    sizes = target.vocabulary, drafter.vocabulary
    same = same_vocabulary(spelling(target.tokenizer, sizes[0]), spelling(drafter.tokenizer, sizes[1]))
    if foreign is False and not same:
        raise PairError(
            f"pair.foreign=false says that both models share a tokenizer, but theirs differ ({len(target.tokenizer)} "
            f"and {len(drafter.tokenizer)} tokens): {_first_difference(target.tokenizer, drafter.tokenizer)}; "
            "say pair.foreign=true"
        )
    foreign = not same if foreign is None else foreign
    if not foreign and sizes[0] == sizes[1]:
        return None, None, False
    vocab = align(target.tokenizer, drafter.tokenizer, *sizes)
    return vocab, feed_table(target.tokenizer, drafter.tokenizer, *sizes) if foreign else None, foreign


def _first_difference(tokenizer: PreTrainedTokenizerBase, drafter_tokenizer: PreTrainedTokenizerBase) -> str:
    ours = {token_id: token for token, token_id in tokenizer.get_vocab().items()}
    theirs = {token_id: token for token, token_id in drafter_tokenizer.get_vocab().items()}
    for token_id in sorted(set(ours) | set(theirs)):
        if ours.get(token_id) != theirs.get(token_id):
            return f"id {token_id} is {ours.get(token_id)!r} for the target, {theirs.get(token_id)!r} for the drafter"
    return f"eos is {tokenizer.eos_token_id} and {drafter_tokenizer.eos_token_id}, or another special differs"
