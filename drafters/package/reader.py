"""A drafter package: one directory of safetensors and JSON, loaded only after every part of it has been checked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from drafters.affinity.prior import AffinityPrior
from drafters.io.borrowed_json import BORROWED, read_borrowed
from drafters.io.hub import Source, resolve
from drafters.io.json_rules import DESCRIPTION, check_description
from drafters.io.manifest import Manifest
from drafters.io.model_json import check_known_keys
from drafters.io.safe_load import DAMAGED, TensorInfo, read_json, read_tensors
from drafters.models.architecture import CONFIG, attention, declared_keys, model_class, open_config, skeleton
from drafters.models.borrowed import complete
from drafters.models.devices import choose_device, choose_dtype
from drafters.models.forms import short_form, tail_form
from drafters.models.gguf.cache import resolve_model
from drafters.models.heads import PruneError
from drafters.models.model_folder import PATTERNS as MODEL_PATTERNS
from drafters.models.model_folder import WEIGHTS, check_model_folder, open_tokenizer, quiet
from drafters.models.prune import load_pruned
from drafters.models.tail import Tail
from drafters.package.components import (
    AFFINITY,
    STOP_CONFIG,
    TAIL,
    VOCAB,
    StopModel,
    Vocabulary,
    check_vocabulary,
    load_affinity,
    load_stop,
    load_tail,
)
from drafters.package.integrity import PATTERNS, verify
from drafters.package.recommendation.choices import Recommendation
from drafters.package.recommendation.recommended_json import recommendation_of
from drafters.package_error import PackageError
from drafters.vocab.alignment import VocabMap, identity

FIX = "Give the directory that `python -m pipeline stage=package` wrote, or a published package."


@dataclass(frozen=True, eq=False)
class Package:
    """A loaded drafter. ``model`` and ``drafter`` are two forms of one network and share every weight.

    ``model`` is for code that knows nothing of pruning: its logits have as many columns as the drafter's vocabulary
    (V for a drafter with the target's tokenizer), -inf where a row was pruned. ``drafter`` is for the engine: D
    columns, column d is drafter id ``kept[d]`` and target id ``vocab.to_target[d]``. With a tail there is a third form,
    ``tailed``, also for the engine: V columns, those of pruned rows approximated.
    """

    model: PreTrainedModel
    drafter: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase  # the drafter's own
    kept: Tensor  # int64 (D,) drafter ids, ascending
    vocab: VocabMap  # head rows <-> target ids
    affinity: AffinityPrior | None
    tail: Tail | None
    stop: StopModel | None
    description: dict[str, Any]  # drafters.json
    manifest: Manifest
    tailed: PreTrainedModel | None = None
    # What its evaluation found best, where that lies in or beside its folder
    recommendation: Recommendation | None = None

    @property
    def foreign(self) -> bool:
        """Whether the drafter's tokenizer differs from the target's."""
        return bool(self.description["foreign"])

    @property
    def pruned(self) -> bool:
        """Whether the head has fewer rows than the drafter's vocabulary."""
        return len(self.kept) < self.description["drafter"]["vocabulary"]

    @property
    def tailed_vocab(self) -> VocabMap:
        """Columns of ``tailed`` <-> target ids. A tail is for one tokenizer: column and id are the same number."""
        return identity(self.description["target"]["vocabulary"])

    def to(self, device: torch.device | str) -> "Package":
        """Move all forms of the network to a device, in place; returns self."""
        for form in (self.model, self.drafter, self.tailed):
            if form is not None:
                form.to(device)
        return self


def load(
    path_or_hub_id: str | Path,
    revision: str | None = None,
    *,
    target: str | Path | PreTrainedModel | None = None,
    target_revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> Package:
    """Load a package from a local directory, or from the Hub at a pinned revision (40 hex digits).

    Args:
        target: of a package that borrows (it holds ``borrowed.json``), the model that has what it lacks: a folder, a Hub
            id with ``target_revision``, or the model as transformers loaded it. Other packages do not look at it.
        device: auto, cpu, cuda or mps. dtype: auto, fast, fp32 or bf16, see `choose_dtype`.

    A recommendation that is malformed or another package's is left out, with a warning.

    Raises:
        PackageError: names the file, the field, what was expected and found, and what to do; see docs of `safe_load`.
        DeviceError: no such device.
    """
    where = choose_device(device)
    number = choose_dtype(dtype, where)
    source = resolve(path_or_hub_id, revision, PATTERNS, FIX)
    manifest = verify(source)
    packaged, source = source, _completed(source, manifest, target, target_revision)
    description = read_json(source.folder, DESCRIPTION, root=source.root)
    check_description(description)
    header = check_model_folder(source, packaged=True)
    config = checked_config(source, description)
    vocabulary = checked_vocabulary(source, description)
    check_weights(source, config, header, vocabulary.kept)
    slots = read_slots(source, manifest, description, vocabulary.kept, config)
    model = _open_weights(source, config, number).to(where)
    tail = slots["tail"]
    return Package(
        model=model,
        drafter=short_form(model),
        tailed=None if tail is None else tail_form(model, tail),
        tokenizer=open_tokenizer(source, FIX),
        kept=vocabulary.kept,
        vocab=vocabulary.map,
        description=description,
        manifest=manifest,
        recommendation=recommendation_of(packaged, manifest),
        **slots,
    )


def _completed(
    source: Source, manifest: Manifest, target: str | Path | PreTrainedModel | None, revision: str | None
) -> Source:
    """The package with what it borrows put in; itself where it borrows nothing. Raises PackageError."""
    if BORROWED not in manifest.files:
        return source
    borrowed = read_borrowed(source)
    if target is None:
        raise borrowed.missing_target()
    if not isinstance(target, str | Path):
        revision = getattr(target.config, "_commit_hash", None)  # where it was loaded by a Hub id
        target = str(target.name_or_path)
    fix = f"Give {borrowed.lender}, of which the package borrows, as target=DIR."
    return complete(source, resolve_model(target, revision, MODEL_PATTERNS, fix), manifest.files)


def checked_config(source: Source, description: dict[str, Any]) -> PreTrainedConfig:
    """The config, with known keys only and the sizes that the description states. Raises PackageError."""
    data = read_json(source.folder, CONFIG, root=source.root)
    kind = data.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise PackageError(CONFIG, "model_type", "a model type that transformers knows", kind, FIX)
    check_known_keys(data, declared_keys(CONFIG_MAPPING[kind]), CONFIG)
    config = open_config(source, FIX)
    stated = description["drafter"]["vocabulary"]
    if (rows := config.get_text_config().vocab_size) != stated:
        raise PackageError(CONFIG, "vocab_size", f"{stated} as in {DESCRIPTION}", rows, DAMAGED)
    size = description["target"]["vocabulary"]
    if not description["foreign"] and stated != size:
        expected = f"the target's {size}, as they share a tokenizer"
        raise PackageError(DESCRIPTION, "drafter.vocabulary", expected, stated, DAMAGED)
    return config


def checked_vocabulary(source: Source, description: dict[str, Any]) -> Vocabulary:
    """Kept ids and maps, with the sizes that the description states. Raises PackageError."""
    tensors = read_tensors(source.folder, VOCAB, ("kept", "to_target", "to_drafter"), root=source.root)
    vocabulary = check_vocabulary(
        tensors,
        drafter=description["drafter"]["vocabulary"],
        target=description["target"]["vocabulary"],
        eos=description["eos"],
        foreign=description["foreign"],
    )
    stated = description["drafter"]["kept"]
    if len(vocabulary.kept) != stated:
        raise PackageError(VOCAB, "kept", f"{stated} ids as in {DESCRIPTION}", len(vocabulary.kept), DAMAGED)
    return vocabulary


def check_weights(source: Source, config: PreTrainedConfig, header: dict[str, TensorInfo], kept: Tensor) -> None:
    """The weights are finite and exactly as many as the config with a head of D rows asks for.

    Counted on a skeleton without storage, so that a config cannot make us allocate what the file does not hold. Raises
    PackageError.
    """
    model = skeleton(config)
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        raise PackageError(CONFIG, "architectures", "a model with a linear output head", type(head).__name__, FIX)
    dropped = head.out_features - len(kept)
    expected = sum(tensor.numel() for tensor in model.state_dict().values())
    expected -= dropped * (head.in_features + (head.bias is not None))
    if (found := sum(info.numel for info in header.values())) != expected:
        asked = f"{expected:,} numbers, as {CONFIG} and {len(kept)} head rows ask"
        raise PackageError(WEIGHTS, "size", asked, f"{found:,}", DAMAGED)
    read_tensors(source.folder, WEIGHTS, root=source.root)  # NaN and infinity


def _open_weights(source: Source, config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    try:
        with quiet():
            model = load_pruned(source.folder, scatter=True, dtype=dtype, attn_implementation=attention(config))
    except PruneError as error:
        expected = f"the tensors of a {model_class(config).__name__}"
        raise PackageError(WEIGHTS, "tensors", expected, str(error), DAMAGED) from error
    return model.eval().requires_grad_(False)


def read_slots(
    source: Source, manifest: Manifest, description: dict[str, Any], kept: Tensor, config: PreTrainedConfig
) -> dict[str, Any]:
    """The optional components: each one that the manifest lists, the others None. Raises PackageError."""
    files, folder, root = manifest.files, source.folder, source.root
    drafter, target = description["drafter"]["vocabulary"], description["target"]["vocabulary"]
    if TAIL in files and description["foreign"]:
        raise PackageError(TAIL, "file", "no tail where the tokenizers differ", "one", DAMAGED)
    # What the head reads, which OPT 350M projects to half its hidden size.
    width = skeleton(config).get_output_embeddings().in_features if TAIL in files else 0
    return {
        "affinity": load_affinity(folder, len(kept), target, root) if AFFINITY in files else None,
        "tail": load_tail(folder, kept, drafter, width, root) if TAIL in files else None,
        "stop": load_stop(folder, root) if STOP_CONFIG in files else None,
    }
