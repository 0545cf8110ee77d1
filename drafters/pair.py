"""A target and a drafter, loaded safely, with everything about the two that the rest of the library asks for."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from drafters.devices import choose_device, choose_dtype, must_shard
from drafters.package.hub import Source, resolve
from drafters.package.model_folder import PATTERNS, check_model_folder, open_config, open_model, open_tokenizer
from drafters.vocab.alignment import VocabMap, align, same_vocabulary
from drafters.vocab.bytes import spelling
from drafters.vocab.feed import FeedTable, feed_table

FIELDS = ("name", "target", "drafter", "target_revision", "drafter_revision", "foreign")


class PairError(ValueError):
    """Two models that cannot be a pair, or settings that name none."""


@dataclass(frozen=True)
class ModelPair:
    """Both models on their devices, in evaluation mode; of every field in twos, the target comes first.

    ``vocab`` is None where row d of the drafter's head is target id d and both heads are equally long; otherwise it maps
    the drafter's head rows, D of them, to the V target ids. ``feed`` is None for one shared tokenizer.
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
        """Of the two models' weights."""
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

        One tokenizer: the same ids. Two: the text, encoded once by the drafter's own tokenizer; specials go by role, one
        without a counterpart is left out (heterogeneous vocabularies, arXiv 2502.05202). Raises PairError when nothing
        is left that the drafter can read.
        """
        return foreign_prompt(self, ids) if self.foreign else ids


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
    settings = _settings(cfg, fields)
    where = choose_device(device)
    number = choose_dtype(dtype, where)
    source, config, target_tokenizer, tensors = _open("target", settings)
    drafter_source, drafter_config, drafter_tokenizer, _ = _open("drafter", settings)
    vocab, feed, foreign = _match(settings["foreign"], config, drafter_config, target_tokenizer, drafter_tokenizer)
    target = open_model(source, config, number, where, sharded=must_shard(tensors, number, where))
    return ModelPair(
        target=target,
        drafter=open_model(drafter_source, drafter_config, number, where),
        target_tokenizer=target_tokenizer,
        drafter_tokenizer=drafter_tokenizer,
        vocab=vocab,
        feed=feed,
        foreign=foreign,
        ids=(source.id, drafter_source.id),
        revisions=(source.revision, drafter_source.revision),
        eos=eos_ids(target, target_tokenizer),
    )


def load_tokenizers(cfg: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, PreTrainedTokenizerBase]:
    """The tokenizers alone, under ``target`` and ``drafter``, checked against their models' configs. Raises as `load_pair`."""
    settings = _settings(cfg, fields)
    return {role: _open(role, settings)[2] for role in ("target", "drafter")}


def eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None) -> tuple[int, ...]:
    """Every id that ends a text, without repeats: generation_config's first, then config's, then the tokenizer's.

    Each of the three may hold an int, a list or nothing. transformers' generate stops on the first source alone; taking all
    three makes a model without a generation_config stop too. Raises PairError for an id that the model has no row for.
    """
    text_config = model.config.get_text_config()
    sources = (
        getattr(model.generation_config, "eos_token_id", None),
        getattr(text_config, "eos_token_id", None),
        None if tokenizer is None else tokenizer.eos_token_id,
    )
    found = [token for value in sources if value is not None for token in (value if isinstance(value, list) else [value])]
    size = vocabulary_size(model.config)
    if bad := [token for token in found if not isinstance(token, int) or not 0 <= token < size]:
        raise PairError(
            f"eos_token_id of {model.name_or_path!r} holds {bad}, expected ids from 0 to {size - 1}: "
            "correct its generation_config.json"
        )
    return tuple(dict.fromkeys(found))


def vocabulary_size(config: PreTrainedConfig) -> int:
    """Columns of a model's logits."""
    return int(config.get_text_config().vocab_size)


def context_length(config: PreTrainedConfig) -> int | None:
    """Positions a model was built for (``max_position_embeddings`` or its family's name for it), None without a limit."""
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else None


def foreign_prompt(pair: ModelPair, ids: Tensor) -> Tensor:
    """`ModelPair.drafter_prompt` for two tokenizers."""
    assert pair.vocab is not None
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
        if (row := int(pair.vocab.to_drafter[token])) >= 0:
            pieces.append(row)
    flush()
    # The drafter was trained with its own opening token, whatever the target's convention is.
    opening = [token for token in tokenizer.encode("")[:1] if token in tokenizer.all_special_ids]
    if opening and pieces[:1] != opening:
        pieces = opening + pieces
    if not pieces:
        raise PairError(
            f"the drafter's tokenizer {tokenizer.name_or_path!r} has no token for any character of the prompt and adds no "
            "opening token: choose a drafter that knows this text"
        )
    return torch.tensor(pieces, dtype=torch.int64, device=ids.device)


def _settings(cfg: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """One value, perhaps None, for each of FIELDS."""
    given = {**{str(key): value for key, value in (cfg or {}).items()}, **fields}
    for key in given:
        if key not in FIELDS:
            near = difflib.get_close_matches(key, FIELDS, n=1)
            raise PairError(f"unknown pair setting {key!r}; known: {', '.join(FIELDS)}" + (f"; did you mean {near[0]!r}?" if near else ""))
    for role in ("target", "drafter"):
        if not given.get(role):
            raise PairError(f"pair.{role} is not set: give a local model folder or a Hub id, pair.{role}=DIR")
    return {key: given.get(key) for key in FIELDS}


def _open(role: str, settings: Mapping[str, Any]) -> tuple[Source, PreTrainedConfig, PreTrainedTokenizerBase, dict]:
    """Everything of one model but its weights."""
    fix = f"Give a local model folder with pair.{role}=DIR."
    source = resolve(settings[role], settings[f"{role}_revision"], PATTERNS, fix)
    tensors = check_model_folder(source)
    config = open_config(source, fix)
    tokenizer = open_tokenizer(source, fix)
    used, rows = max(tokenizer.get_vocab().values(), default=-1) + 1, vocabulary_size(config)
    if used > rows:
        raise PairError(
            f"the tokenizer of the {role} {source.id} uses ids up to {used - 1}, but the model has {rows} embedding rows: "
            f"the two do not belong together; check pair.{role}"
        )
    return source, config, tokenizer, tensors


def _match(
    foreign: bool | None,
    config: PreTrainedConfig,
    drafter_config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    drafter_tokenizer: PreTrainedTokenizerBase,
) -> tuple[VocabMap | None, FeedTable | None, bool]:
    """Vocabulary map, feed table and whether the tokenizers differ, once that agrees with what the user said."""
    sizes = vocabulary_size(config), vocabulary_size(drafter_config)
    same = same_vocabulary(spelling(tokenizer, sizes[0]), spelling(drafter_tokenizer, sizes[1]))
    if foreign is False and not same:
        raise PairError(
            f"pair.foreign=false says that both models share a tokenizer, but theirs differ ({len(tokenizer)} and "
            f"{len(drafter_tokenizer)} tokens): {_first_difference(tokenizer, drafter_tokenizer)}; say pair.foreign=true"
        )
    foreign = not same if foreign is None else foreign
    if not foreign and sizes[0] == sizes[1]:
        return None, None, False
    vocab = align(tokenizer, drafter_tokenizer, *sizes)
    return vocab, feed_table(tokenizer, drafter_tokenizer, *sizes) if foreign else None, foreign


def _first_difference(tokenizer: PreTrainedTokenizerBase, drafter_tokenizer: PreTrainedTokenizerBase) -> str:
    ours = {token_id: token for token, token_id in tokenizer.get_vocab().items()}
    theirs = {token_id: token for token, token_id in drafter_tokenizer.get_vocab().items()}
    for token_id in sorted(set(ours) | set(theirs)):
        if ours.get(token_id) != theirs.get(token_id):
            return f"id {token_id} is {ours.get(token_id)!r} for the target and {theirs.get(token_id)!r} for the drafter"
    return f"eos is {tokenizer.eos_token_id} and {drafter_tokenizer.eos_token_id}, or another special differs"
