"""The tensor files of a package: what each slot holds, and the checks that make it safe to index by.

Every loader reads through `safe_load` and returns a value whose ids are in range; nothing is indexed before that.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drafters.affinity.prior import AffinityPrior
from drafters.io.json_rules import check_stop_config
from drafters.io.safe_load import DAMAGED, read_json, read_tensors
from drafters.models.tail import Tail
from drafters.package_error import PackageError
from drafters.vocab.alignment import VocabMap

VOCAB, AFFINITY, TAIL = "vocab.safetensors", "affinity.safetensors", "tail.safetensors"
STOP_WEIGHTS, STOP_CONFIG = "stop/model.safetensors", "stop/config.json"


@dataclass(frozen=True)
class Vocabulary:
    """``vocab.safetensors``: which drafter ids the head kept, and how its D rows and the V target ids translate."""

    kept: Tensor  # int64 (D,) drafter ids, ascending
    map: VocabMap  # rows <-> target ids


@dataclass(frozen=True)
class StopModel:
    """A trained stop policy as data: settings as `json_rules.check_stop_config` has them, and a network's weights."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]  # mean (F,), scale (F,), layers.<i>.weight (out, in), layers.<i>.bias (out,)


def check_ids(ids: Tensor, bound: int, file: str, field: str) -> Tensor:
    """Ids as every file holds them: int64 (n,), n >= 1, ascending without repeats, below bound. Raises PackageError."""
    _expect(ids, torch.int64, (None,), file, field)
    if ids.numel() == 0:
        raise PackageError(file, field, "at least one id", "none", DAMAGED)
    if ids.numel() > 1 and bool((ids[1:] <= ids[:-1]).any()):
        raise PackageError(file, field, "ascending ids without repeats", "unsorted or repeated ids", DAMAGED)
    if int(ids[0]) < 0 or int(ids[-1]) >= bound:
        raise PackageError(file, field, f"ids from 0 to {bound - 1}", f"{int(ids[0])} to {int(ids[-1])}", DAMAGED)
    return ids


def check_vocabulary(
    tensors: dict[str, Tensor], drafter: int, target: int, eos: list[int], foreign: bool
) -> Vocabulary:
    """Vocabulary from the three tensors of ``vocab.safetensors``.

    Args:
        drafter: size of the drafter's own vocabulary. target: V. eos: the target's EOS ids.

    The two maps invert each other: every target id that names a row is named by that row. Several rows may name one
    target id (their probabilities are summed); that id then names one of them. Raises PackageError.
    """
    kept = check_ids(tensors["kept"], drafter, VOCAB, "kept")
    to_target, to_drafter = tensors["to_target"], tensors["to_drafter"]
    rows = kept.numel()
    _expect(to_target, torch.int64, (rows,), VOCAB, "to_target")
    _expect(to_drafter, torch.int64, (target,), VOCAB, "to_drafter")
    _in_range(to_target, -1, target, VOCAB, "to_target")
    _in_range(to_drafter, -1, rows, VOCAB, "to_drafter")
    mapped = (to_target >= 0).nonzero().flatten()
    reached = (to_drafter >= 0).nonzero().flatten()
    named = torch.zeros(target, dtype=torch.bool)
    named[to_target[mapped]] = True
    if not torch.equal(named.nonzero().flatten(), reached) or not torch.equal(to_target[to_drafter[reached]], reached):
        raise PackageError(VOCAB, "to_drafter", "the inverse of to_target", "a map that disagrees with it", DAMAGED)
    if not foreign and not torch.equal(to_target[mapped], kept[mapped]):
        raise PackageError(VOCAB, "to_target", "the kept ids, as the tokenizers are the same", "other ids", DAMAGED)
    # A row that stands for no target token can only be drawn to be rejected; the head is pruned to rows that have one.
    missing = [token for token in eos if int(to_drafter[token]) < 0]
    # One vocabulary: an end that the target was given beyond the drafter's rows cannot be drafted, which costs a draft.
    refused = len(missing) == len(eos) if foreign else any(token <= int(kept[-1]) for token in missing)
    if missing and refused:
        raise PackageError(VOCAB, "kept", f"the target's EOS ids {eos}", f"none of {missing}", DAMAGED)
    return Vocabulary(kept, VocabMap(to_target=to_target, to_drafter=to_drafter))


def load_affinity(folder: Path, rows: int, target: int, root: Path | None = None) -> AffinityPrior:
    """The RDK prior of D = ``rows`` donors over V = ``target`` ids. Raises PackageError."""
    tensors = read_tensors(folder, AFFINITY, ("index", "weight", "share"), root=root)
    index, weight, share = tensors["index"], tensors["weight"], tensors["share"]
    shared = index.dim() == 2 and index.shape[0] == 1  # one row of neighbours for all donors
    _expect(index, torch.int32, (1 if shared else rows, None), AFFINITY, "index")
    _expect(weight, torch.float32, tuple(index.shape), AFFINITY, "weight")
    _expect(share, torch.float32, (rows,), AFFINITY, "share")
    _in_range(index, 0, target, AFFINITY, "index")
    if bool((weight < 0).any()):
        raise PackageError(AFFINITY, "weight", "no negative weight", float(weight.min()), DAMAGED)
    # Rows that give nothing away need no neighbours; the others must hand on exactly what they give.
    giving = (share > 0).any().unsqueeze(0) if shared else share > 0
    off = (weight.double().sum(dim=1) - 1).abs()[giving]
    if off.numel() and not float(off.max()) <= 1e-4:
        raise PackageError(AFFINITY, "weight", "rows that sum to 1", f"a sum off by {float(off.max()):.2e}", DAMAGED)
    if bool(((share < 0) | (share > 1)).any()):
        raise PackageError(AFFINITY, "share", "shares from 0 to 1", [float(share.min()), float(share.max())], DAMAGED)
    return AffinityPrior(index=index, weight=weight, share=share)


def load_tail(folder: Path, kept: Tensor, drafter: int, hidden: int, root: Path | None = None) -> Tail:
    """The low-rank tail over pruned ids of a drafter with H = ``hidden``. Raises PackageError."""
    tensors = read_tensors(folder, TAIL, ("ids", "down", "up"), optional=("bias",), root=root)
    ids = check_ids(tensors["ids"], drafter, TAIL, "ids")
    if bool(torch.isin(ids, kept).any()):
        raise PackageError(TAIL, "ids", "ids that the head has not kept", "kept ones", DAMAGED)
    down, up, bias = tensors["down"], tensors["up"], tensors.get("bias")
    _expect_float(down, (None, hidden), TAIL, "down")
    _expect_float(up, (ids.numel(), down.shape[0]), TAIL, "up")
    if bias is not None:
        _expect_float(bias, (ids.numel(),), TAIL, "bias")
    return Tail(ids=ids, down=down, up=up, bias=bias)


def load_stop(folder: Path, root: Path | None = None) -> StopModel:
    """The trained stop policy in ``stop/``. Raises PackageError."""
    config = read_json(folder, STOP_CONFIG, root=root)
    check_stop_config(config, STOP_CONFIG)
    widths = [len(config["features"]), *config["hidden"], config["outputs"]]
    shapes: dict[str, tuple[int, ...]] = {"mean": (widths[0],), "scale": (widths[0],)}
    for layer, (inputs, outputs) in enumerate(pairwise(widths)):
        shapes |= {f"layers.{layer}.weight": (outputs, inputs), f"layers.{layer}.bias": (outputs,)}
    tensors = read_tensors(folder, STOP_WEIGHTS, shapes, root=root)
    for name, shape in shapes.items():
        _expect(tensors[name], torch.float32, shape, STOP_WEIGHTS, name)
    if bool((tensors["scale"] <= 0).any()):
        raise PackageError(STOP_WEIGHTS, "scale", "positive numbers", float(tensors["scale"].min()), DAMAGED)
    return StopModel(config=config, tensors=tensors)


def _expect(tensor: Tensor, dtype: torch.dtype, shape: tuple[int | None, ...], file: str, field: str) -> None:
    fits = tensor.dim() == len(shape) and 0 not in tensor.shape
    fits = fits and all(want in (None, have) for want, have in zip(shape, tensor.shape, strict=True))
    if tensor.dtype != dtype or not fits:
        wanted = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
        got = f"{tensor.dtype} {tuple(tensor.shape)}"
        raise PackageError(file, field, f"{dtype} {wanted}", got, DAMAGED)


def _expect_float(tensor: Tensor, shape: tuple[int | None, ...], file: str, field: str) -> None:
    allowed = (torch.float32, torch.bfloat16, torch.float16)
    _expect(tensor, tensor.dtype if tensor.dtype in allowed else torch.float32, shape, file, field)


def _in_range(ids: Tensor, low: int, high: int, file: str, field: str) -> None:
    if int(ids.min()) < low or int(ids.max()) >= high:
        got = f"{int(ids.min())} to {int(ids.max())}"
        raise PackageError(file, field, f"ids from {low} to {high - 1}", got, DAMAGED)
