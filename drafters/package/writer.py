"""Writes a package. The same inputs give the same bytes: no times, no paths of this machine, keys in sorted order."""

import hashlib
import json
import re
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from drafters.affinity.prior import AffinityPrior
from drafters.io.json_rules import DESCRIPTION, FORMAT_VERSION, check_description
from drafters.io.manifest import content_hash, file_sha256, list_files, write_manifest
from drafters.io.model_json import FORBIDDEN
from drafters.models.borrowed import write_borrowed
from drafters.models.heads import PrunedHead, resize_embedding
from drafters.models.model_folder import quiet
from drafters.models.prune import save_pruned
from drafters.models.tail import Tail
from drafters.package.components import (
    AFFINITY,
    STOP_CONFIG,
    STOP_WEIGHTS,
    TAIL,
    VOCAB,
    StopModel,
    check_vocabulary,
)
from drafters.package.integrity import OPTIONAL, REQUIRED
from drafters.vocab.alignment import VocabMap

# What transformers notes about how a tokenizer was opened: nothing of the tokenizer itself, sometimes a path.
LOAD_NOTES = (
    "is_local",
    "local_files_only",
    "name_or_path",
    "vocab_file",
    "merges_file",
    "tokenizer_file",
    "_commit_hash",
)
METADATA = {"format": "pt"}


@dataclass(frozen=True)
class Origin:
    """Which model one side of the pair is. ``id`` must not tell where a folder lies on this machine."""

    id: str
    revision: str | None  # the Hub's commit, or sha256:<hex> of a local folder's weights
    licence: str | None  # SPDX name or the Hub's; None where it is not known
    vocabulary: int  # columns of its logits


def describe(
    name: str,
    target: Origin,
    drafter: Origin,
    *,
    kept: int,
    foreign: bool,
    eos: tuple[int, ...],
    coverage: float | None = None,
    least_covered: dict[str, Any] | None = None,
    sampler: str | None = None,
    stop: str = "static",
    generation: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of ``drafters.json``, the package's description of itself.

    Args:
        kept: D. eos: target ids that end a text. coverage: share of the target's tokens of its text that can be
            proposed, 0 to 1. least_covered: ``domain`` and ``coverage`` of the domain to be warned of, None for none.
        sampler: recommended one; by default standard for an unpruned drafter of the same tokenizer, else tli.
        generation: defaults that the drafter was prepared for: temperature, top_k (0 = off), top_p, lookahead (tokens
            drafted per round).

    Raises PackageError for a value that `load` would refuse.
    """
    unpruned = kept == drafter.vocabulary and not foreign
    description = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "foreign": foreign,
        "target": vars(target).copy(),
        "drafter": {**vars(drafter), "kept": kept},
        "eos": list(eos),
        "coverage": coverage,
        "recommended": {"sampler": sampler or ("standard" if unpruned else "tli"), "stop": stop},
        "generation": {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "lookahead": 5, **(generation or {})},
    }
    if least_covered is not None:
        description["least_covered"] = least_covered
    check_description(description)
    return description


def save_package(
    directory: str | Path,
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    kept: Tensor,
    vocab: VocabMap,
    description: dict[str, Any],
    licence: str,
    affinity: AffinityPrior | None = None,
    tail: Tail | None = None,
    stop: StopModel | None = None,
    lender: Path | None = None,
) -> Path:
    """Write a package directory, its manifest last; returns the directory.

    Args:
        lender: the target's folder; what that has bit for bit (embedding, kept head rows, tokenizer) is left to it.
        model: the drafter, pruned to ``kept`` or still to be (in place). tokenizer: the drafter's own.
        kept: int64 (D,) ascending drafter ids. vocab: head rows <-> target ids. licence: text of the licence file.

    Raises:
        FileExistsError: the directory holds files already. PackageError, PruneError: parts that do not fit together.
    """
    directory = Path(directory)
    if directory.exists() and any(directory.iterdir()):
        raise FileExistsError(f"{directory} is not empty: a package is written whole, into a new directory")
    check_description(description)
    maps = {"kept": kept, "to_target": vocab.to_target, "to_drafter": vocab.to_drafter}
    maps = {name: tensor.cpu().clone() for name, tensor in maps.items()}  # an identity map may share one storage
    check_vocabulary(
        maps,
        drafter=description["drafter"]["vocabulary"],
        target=description["target"]["vocabulary"],
        eos=description["eos"],
        foreign=description["foreign"],
    )
    fit_vocabulary(model, description["drafter"]["vocabulary"])
    directory.mkdir(parents=True, exist_ok=True)
    with quiet():
        save_pruned(model, kept, directory)
    _save_tokenizer(tokenizer, directory)
    save_file(maps, directory / VOCAB, metadata=METADATA)
    _save_slots(directory, affinity, tail, stop)
    if lender is not None:
        target = description["target"]
        write_borrowed(directory, lender, target_id=target["id"], target_revision=target["revision"])
    _write_json(directory / DESCRIPTION, description)
    (directory / "LICENSE").write_text(licence.rstrip() + "\n", encoding="utf-8")
    for path in directory.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors writes files that only their owner can read
    names = list_files(directory)
    key = content_hash({name: {"sha256": file_sha256(directory / name)} for name in names})[:16]
    write_manifest(directory, kind="package", key=key, config=description, inputs={}, files=names)
    return directory


def fit_vocabulary(model: PreTrainedModel, vocabulary: int) -> None:
    """Give the input embedding ``vocabulary`` rows, in place: zeros are added, or padding rows cut off.

    Models of one family pad their vocabularies to different lengths; one tokenizer then never reaches the rows in
    question, and with equal lengths transformers takes the two for a pair.
    """
    config = model.config.get_text_config()
    if config.vocab_size == vocabulary:
        return
    resize_embedding(model, vocabulary)
    config.vocab_size = vocabulary
    head = model.get_output_embeddings()
    if isinstance(head, PrunedHead):
        head.vocabulary = vocabulary


def folder_revision(folder: Path) -> str:
    """``sha256:<hex>`` over the weights, config and tokenizer of a local model folder, wherever it lies."""
    files = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".json") and path.is_file()]
    names = sorted(path.name for path in files if path.name != "manifest.json")
    digests = "".join(f"{name} {file_sha256(folder / name)}\n" for name in names)
    return "sha256:" + hashlib.sha256(digests.encode()).hexdigest()


def plain_name(text: str) -> str:
    """A name for a model or pair with nothing of its path but the last part, in the characters a package allows."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "-", Path(text).name).lstrip("-.+") or "model"


def plain_domain(text: str) -> str:
    """A domain's name in the characters that a package allows."""
    return re.sub(r"[^\w .,+/():-]", "-", text).lstrip(" .,+/():-")[:100] or "unnamed"


def _save_tokenizer(tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    before = set(directory.iterdir())
    tokenizer.save_pretrained(directory)
    path = directory / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    notes = {*LOAD_NOTES, *(key for key in config if key.startswith("_") or key in FORBIDDEN)}
    _write_json(path, {key: value for key, value in config.items() if key not in notes})
    for extra in set(directory.iterdir()) - before:  # further templates, files for converters: no part of a package
        if extra.is_dir():
            shutil.rmtree(extra)
        elif extra.name not in (*REQUIRED, *OPTIONAL):
            extra.unlink()


def _save_slots(directory: Path, affinity: AffinityPrior | None, tail: Tail | None, stop: StopModel | None) -> None:
    for name, part in ((AFFINITY, affinity), (TAIL, tail)):
        if part is not None:
            tensors = {field.name: getattr(part, field.name) for field in fields(part)}
            present = {key: tensor.cpu().clone() for key, tensor in tensors.items() if tensor is not None}
            save_file(present, directory / name, metadata=METADATA)
    if stop is not None:
        (directory / "stop").mkdir()
        present = {key: tensor.cpu().clone() for key, tensor in stop.tensors.items()}
        save_file(present, directory / STOP_WEIGHTS, metadata=METADATA)
        _write_json(directory / STOP_CONFIG, stop.config)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
