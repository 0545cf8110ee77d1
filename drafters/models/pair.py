"""A target and a drafter, loaded safely, with everything about the two that the rest of the library asks for."""

import difflib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from drafters.errors import DraftersError
from drafters.io.borrowed_json import borrows
from drafters.io.hub import Source
from drafters.io.safe_load import TensorInfo
from drafters.models import quantised
from drafters.models.architecture import open_config
from drafters.models.borrowed import complete
from drafters.models.devices import choose_device, choose_dtype, must_shard
from drafters.models.gguf.cache import resolve_model
from drafters.models.heads import grow_embedding
from drafters.models.model_folder import (
    PATTERNS,
    check_model_folder,
    folder_notes,
    open_generation_config,
    open_model,
    open_tokenizer,
)
from drafters.samplers.lossy_settings import check_acceptance, check_processors, leave_out
from drafters.vocab.alignment import VocabMap
from drafters.vocab.feed import FeedTable
from drafters.vocab.matching import VocabularyMatch, foreign_prompt, match_tokenizers
from drafters.vocab.protected import template_tokens
from drafters.vocab.spelling import without_row

FIELDS = ("name", "target", "drafter", "target_revision", "drafter_revision", "foreign", "unset")


class PairError(DraftersError):
    """Two models that cannot be a pair, or settings that name none."""


@dataclass(frozen=True)
class ModelPair:
    """Both models on their devices, in evaluation mode; of every field in twos, the target comes first.

    ``vocab`` is None where row d of the drafter's head is target id d and both heads are equally long; otherwise it
    maps the drafter's head rows, D of them, to the V target ids. ``feed`` is None for one shared vocabulary: the
    drafter's input embedding then has a row for every target id.
    """

    target: PreTrainedModel
    drafter: PreTrainedModel
    target_tokenizer: PreTrainedTokenizerBase
    drafter_tokenizer: PreTrainedTokenizerBase
    vocab: VocabMap | None
    feed: FeedTable | None
    foreign: bool  # two vocabularies
    ids: tuple[str, str]
    revisions: tuple[str | None, str | None]
    eos: tuple[int, ...]  # target ids that end a text
    left_out: Mapping[str, object] = field(
        default_factory=dict
    )  # settings of the target's generation config: pair.unset

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

        One vocabulary: the same ids. Two: see `drafters.vocab.matching.foreign_prompt`. Raises PairError when nothing
        is left that the drafter can read.
        """
        if self.feed is None:
            return ids
        read = foreign_prompt(self.target_tokenizer, self.drafter_tokenizer, self.feed, ids)
        if not len(read):
            raise PairError(
                f"the drafter's tokenizer {self.drafter_tokenizer.name_or_path!r} has no token for any character of the "
                "prompt and adds no opening token: choose a drafter that knows this text"
            )
        return read


def load_pair(
    cfg: Mapping[str, Any] | None = None, *, device: str = "auto", dtype: str = "auto", **fields: Any
) -> ModelPair:
    """Load the two models of a pair.

    Args:
        cfg: ``target`` and ``drafter``, each a local folder, a GGUF file, or a Hub id with ``target_revision`` / ``drafter_revision``
            (a commit of 40 hex digits; without one the newest is taken, with a warning that names it); ``foreign``: their
            vocabularies differ, None to find out; ``unset``: settings that the target's generation config is to lose, e.g.
            repetition_penalty. ``fields`` take precedence over it.
        device: auto, cpu, cuda or mps. dtype: auto, fast, fp32 or bf16, see `choose_dtype`.

    Raises:
        PackageError: a folder that is not there, not safe to load or not a causal LM, or a Hub that cannot be reached.
        PairError: models that do not fit together. DeviceError: no such device.
    """
    where = choose_device(device)
    number = choose_dtype(dtype, where)
    settings = pair_settings(cfg, **fields)
    ours, theirs = open_checkpoint("target", settings), open_checkpoint("drafter", settings)
    match = match_vocabularies(ours, theirs, settings["foreign"])
    if not match.same and not match.foreign:
        warnings.warn(f"pair.foreign=false takes two vocabularies for one: {match.differences}", stacklevel=2)
    sharded = must_shard(ours.weight_bytes(number), where)
    target = open_model(ours.source, ours.config, number, where, sharded)
    drafter = open_model(theirs.source, theirs.config, number, where)
    return ModelPair(
        target=target,
        drafter=drafter if match.foreign else grow_embedding(drafter, ours.vocabulary),
        target_tokenizer=ours.tokenizer,
        drafter_tokenizer=theirs.tokenizer,
        vocab=match.vocab,
        feed=match.feed,
        foreign=match.foreign,
        ids=(ours.source.id, theirs.source.id),
        revisions=(ours.source.revision, theirs.source.revision),
        eos=ours.eos,
        left_out=leave_out(target.generation_config, settings["unset"] or ()),
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
    """The ``target`` or ``drafter`` of `pair_settings`, without its weights; a drafter that borrows of the target is completed.

    Raises:
        PackageError: a folder that is not there, not safe to load or not a causal LM, a quantised drafter, a drafter
            that borrows of another target, or a Hub that cannot be reached.
        PairError: a tokenizer or EOS id for which the model has no row.
    """
    fix = f"Give a local model folder with pair.{role}=DIR."
    source = resolve_model(settings[role], settings[f"{role}_revision"], PATTERNS, fix)
    if role == "drafter" and borrows(source) and settings.get("target"):
        lender = resolve_model(settings["target"], settings["target_revision"], PATTERNS, fix.replace(role, "target"))
        source = complete(source, lender)
    tensors = check_model_folder(source)
    config = open_config(source, fix)
    if role == "drafter":
        quantised.check_drafter(config)
    tokenizer = open_tokenizer(source, fix)
    _check_rows(role, source, tokenizer, vocabulary_size(config))
    eos = eos_ids(config, open_generation_config(source), tokenizer)
    return Checkpoint(source, config, tokenizer, eos, tensors, folder_notes(source, config))


def _check_rows(role: str, source: Source, tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Added tokens may lack a row, unless the chat template writes them; no other id may."""
    out = without_row(tokenizer, rows)
    used = max((token_id for token_id in tokenizer.get_vocab().values() if token_id not in out), default=-1) + 1
    if used > rows:
        raise PairError(
            f"the tokenizer of the {role} {source.id} uses ids up to {used - 1}, but the model has {rows} embedding "
            f"rows: the two do not belong together; check pair.{role}"
        )
    if said := sorted(template_tokens(tokenizer) & set(out)):
        raise PairError(
            f"the chat template of the {role} {source.id} writes {out[said[0]]!r}, id {said[0]}, but the model has {rows} "
            "embedding rows: resize its embeddings (model.resize_token_embeddings), or remove the template"
        )


def check_generation_config(target: Checkpoint, unset: Sequence[str] | None) -> None:
    """Raise LossyError for what the target's generation config does to p and is not applied here, unless `unset` names it."""
    if config := open_generation_config(target.source):
        leave_out(config, unset or ())
        check_acceptance("the target's generation config", config.to_dict())
        check_processors(config.to_dict())


def eos_ids(
    config: PreTrainedConfig,
    generation: GenerationConfig | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> tuple[int, ...]:
    """Every id that ends a text, as transformers' own generate takes it: what generation_config lists.

    Where it says nothing, config does, else the tokenizer. Each may hold an int, a list or nothing. Raises PairError for
    an id that the model has no row for.
    """
    sources = (
        None if generation is None else generation.eos_token_id,
        getattr(config.get_text_config(), "eos_token_id", None),
        None if tokenizer is None else tokenizer.eos_token_id,
    )
    first: Any = next((value for value in sources if value not in (None, [])), [])
    found = list(first) if isinstance(first, list | tuple) else [first]
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


def match_vocabularies(target: Checkpoint, drafter: Checkpoint, foreign: bool | None) -> VocabularyMatch:
    """How the two vocabularies go together; ``foreign`` is what the user says of that and is obeyed, None nothing."""
    return match_tokenizers(target.tokenizer, drafter.tokenizer, target.vocabulary, drafter.vocabulary, foreign)
