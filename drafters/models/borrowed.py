"""Drafters that lack what their target has bit for bit: embedding, head rows, tokenizer. Written here, and completed.

Heads in production engines share embedding and head with the model they draft for; a drafter on disk can as well. Its
folder is an ordinary one whose weights lack some tensors, plus ``borrowed.json`` (`drafters.io.borrowed_json`). A
complete folder is made of it and the target once, in the cache, after the bytes of all that is borrowed were compared.
"""

import os
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from drafters.io.atomic import write_json
from drafters.io.borrowed_json import BORROWED, DTYPE, FILES, MOST_USES, ROWS, Borrowed, Loan, borrows, read_borrowed
from drafters.io.hub import Source, local_source
from drafters.io.made_once import made_once
from drafters.io.manifest import NAME as MANIFEST
from drafters.io.manifest import content_hash, file_sha256, write_manifest
from drafters.io.paths import cache_folder
from drafters.io.safe_load import (
    DAMAGED,
    MAX_TOKENIZER_BYTES,
    TensorInfo,
    list_files,
    locate,
    read_header,
    read_json,
    read_tensors,
    tensor_sha256,
)
from drafters.models.model_folder import INDEX, READ, WEIGHTS, check_model_folder
from drafters.models.prune import VOCAB_FILE
from drafters.package_error import PackageError

LEAST_BYTES = 1 << 20  # a smaller tensor is not worth an entry
METADATA = {"format": "pt"}


def write_borrowed(
    folder: Path,
    target_folder: Path,
    names: Collection[str] | None = None,
    *,
    target_id: str | None = None,
    target_revision: str | None = None,
) -> Borrowed:
    """Turn a complete folder into one without the tensors, and the tokenizer.json, that its target has bit for bit.

    The new folder is written aside and takes the place of the old one; where nothing is equal, that stays as it is. In a
    package, rows of a head are compared with those of the target's head that its kept ids name.

    Args:
        folder: holds one ``model.safetensors``. target_folder: a complete model folder.
        names: the tensors to borrow; None: all of at least 1 MB, in bf16, that the target has.
        target_id: what ``borrowed.json`` calls the target; None: its folder's name. target_revision: its commit or
            sha256:<hex>.

    Raises:
        PackageError: a name of ``names`` whose tensor is no tensor of the target; files that are no models.
    """
    source, target = local_source(folder, folder.name), local_source(target_folder, target_folder.name)
    own = check_model_folder(source)
    loans = dict(_equal_tensors(source, own, target, names))
    files = {name: file_sha256(folder / name) for name in FILES if _same_file(folder / name, target.folder / name)}
    called = target_id or re.sub(r"[^\w./+:=@~-]", "-", target.folder.name)[:200] or "target"
    borrowed = Borrowed(called, target_revision, loans, files)
    if loans or files:
        aside = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
        old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
        try:
            leave = {WEIGHTS, *files}  # at the top: a package's stop policy has weights of the same name
            shutil.copytree(folder, aside, ignore=lambda place, _: leave if Path(place) == folder else ())
            kept = load_file(folder / WEIGHTS)
            left = {name: tensor for name, tensor in kept.items() if name not in loans}
            save_file(left, aside / WEIGHTS, metadata=METADATA)
            write_json(aside / BORROWED, borrowed.as_json())
            folder.rename(old)
            aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old)
    return borrowed


def complete(source: Source, target_source: Source, names: Iterable[str] | None = None) -> Source:
    """The folder with what it borrows of its target put in: itself where it borrows nothing, else one in the cache.

    ``id`` and ``revision`` stay what the user wrote. The cached folder is made once for these bytes, whole or not at all,
    and its hashes are compared whenever it is opened.

    Args:
        names: the files of ``source`` that count, beside its weights; None: all that a model folder is read for.

    Raises:
        PackageError: a malformed ``borrowed.json``, or a target that lacks what is borrowed or has it with other bytes.
    """
    if not borrows(source):
        return source
    borrowed = read_borrowed(source)
    own = read_header(source.folder, WEIGHTS, source.root)
    listed = set(_read_names(source) if names is None else names)
    for name in [*(own.keys() & borrowed.tensors.keys()), *(borrowed.files.keys() & listed)]:
        raise PackageError(BORROWED, name, "only what the folder lacks", "what it holds itself", DAMAGED)
    holders = _check_target(borrowed, target_source)
    copied = sorted(listed - {BORROWED, WEIGHTS, MANIFEST})
    read = [*copied, BORROWED, WEIGHTS]  # with the hashes of the target's tensors, which borrowed.json holds
    hashes = {name: {"sha256": file_sha256(locate(source.folder, name, source.root))} for name in read}
    place = cache_folder() / "completed" / content_hash(hashes)[:32]

    def write(folder: Path) -> None:
        _write(folder, source, target_source, borrowed, holders, copied)
        write_manifest(folder, kind="completed", key=place.name, config={}, inputs={})

    folder = made_once(place, write).resolve()
    return replace(source, folder=folder, root=folder, given=source.folder)


def _read_names(source: Source) -> list[str]:
    """What transformers and the pipeline read of a model folder beside its weights, its licence included."""
    names = [name for name in list_files(source.folder, source.root) if not any(p[0] == "." for p in name.split("/"))]
    return [name for name in names if name.endswith(READ) or name.startswith(("LICENSE", "NOTICE", VOCAB_FILE))]


def _check_target(borrowed: Borrowed, target: Source) -> dict[str, str]:
    """In which file of the target each source lies, after all that is borrowed was compared. Raises PackageError."""
    found = _located(target)
    fix = f"Give the target that this drafter was made for, {borrowed.lender}, with pair.target=DIR or target=DIR."
    for name, loan in borrowed.tensors.items():
        file, info = found.get(loan.source, ("", None))
        field, expected = f"tensors.{name}", f"{loan.source} of {borrowed.lender} with sha256 {loan.sha256}"
        if info is None:
            raise PackageError(BORROWED, field, expected, f"no such tensor in {target.id}", fix)
        alike = info.shape[1:] == loan.shape[1:] if loan.rows else info.shape == loan.shape
        if info.dtype != DTYPE or not alike:
            raise PackageError(BORROWED, field, expected, f"{info.dtype} {info.shape} in {target.id}", fix)
        if (sha256 := tensor_sha256(target.folder, file, loan.source, target.root)) != loan.sha256:
            raise PackageError(BORROWED, field, expected, f"{sha256} in {target.id}", fix)
    for name, sha256 in borrowed.files.items():
        if (got := file_sha256(locate(target.folder, name, target.root))) != sha256:
            raise PackageError(BORROWED, f"files.{name}", f"that of {borrowed.lender}, sha256 {sha256}", got, fix)
    return {loan.source: found[loan.source][0] for loan in borrowed.tensors.values()}


def _located(source: Source) -> dict[str, tuple[str, TensorInfo]]:
    """File and header of every tensor of a model folder, which is checked here. Raises PackageError."""
    infos = check_model_folder(source)
    if (source.folder / WEIGHTS).exists():
        return {name: (WEIGHTS, info) for name, info in infos.items()}
    files = read_json(source.folder, INDEX, MAX_TOKENIZER_BYTES, source.root)["weight_map"]
    return {name: (files[name], info) for name, info in infos.items() if name in files}


def _write(
    folder: Path, source: Source, target: Source, borrowed: Borrowed, holders: Mapping[str, str], copied: Iterable[str]
) -> None:
    """Fill an empty folder with what the two give together."""
    for name in copied:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(locate(source.folder, name, source.root), folder / name)
    for name in borrowed.files:
        shutil.copyfile(locate(target.folder, name, target.root), folder / name)
    tensors = load_file(locate(source.folder, WEIGHTS, source.root))
    tensors |= {name: _lent(source, target, loan, holders) for name, loan in borrowed.tensors.items()}
    save_file(tensors, folder / WEIGHTS, metadata=METADATA)


def _lent(source: Source, target: Source, loan: Loan, holders: Mapping[str, str]) -> Tensor:
    tensor = _open(target, holders[loan.source], loan.source)
    if not loan.rows:
        return tensor
    ids = read_tensors(source.folder, VOCAB_FILE, root=source.root).get(ROWS, torch.empty(0))
    fits = ids.dtype == torch.int64 and ids.shape == loan.shape[:1]
    if not fits or int(ids.min()) < 0 or int(ids.max()) >= len(tensor):
        expected = f"{loan.shape[0]:,} ids from 0 to {len(tensor) - 1:,}, rows of {loan.source}"
        raise PackageError(VOCAB_FILE, ROWS, expected, f"{ids.dtype} {tuple(ids.shape)}, or other ids", DAMAGED)
    return tensor[ids]


def _open(source: Source, file: str, tensor: str) -> Tensor:
    with safe_open(str(locate(source.folder, file, source.root)), "pt", device="cpu") as opened:
        found: Tensor = opened.get_tensor(tensor)
    return found


def _equal_tensors(
    source: Source, own: Mapping[str, TensorInfo], target: Source, names: Collection[str] | None
) -> Iterator[tuple[str, Loan]]:
    """Each tensor that the target has, too, and its loan. Raises PackageError for one of ``names`` that it has not."""
    found, used = _located(target), Counter[str]()
    maps = read_tensors(source.folder, VOCAB_FILE) if (source.folder / VOCAB_FILE).exists() else {}
    for name in sorted(own) if names is None else names:
        info = own.get(name)
        loan = None
        if info is not None and info.dtype == DTYPE and (names is not None or info.bytes >= LEAST_BYTES):
            left = {other: place for other, place in found.items() if used[other] < MOST_USES}
            loan = _loan_of(_open(source, WEIGHTS, name), maps.get(ROWS), target, left)
        if loan is not None:
            used[loan.source] += 1
            yield name, loan
        elif names is not None:
            expected = f"a tensor in bf16 that {target.id} has with the same bytes"
            fix = "Leave it out of the names that are to be borrowed."
            raise PackageError(WEIGHTS, name, expected, "no such tensor" if info is None else "another one", fix)


def _loan_of(
    tensor: Tensor, ids: Tensor | None, target: Source, found: Mapping[str, tuple[str, TensorInfo]]
) -> Loan | None:
    """The loan by which the target gives this tensor bit for bit, as it is or its rows ``ids``; None: it has none such."""
    for name, (file, info) in found.items():
        rows = ids is not None and tensor.shape == (len(ids), *info.shape[1:]) != info.shape
        if info.dtype != DTYPE or not (rows or tensor.shape == info.shape):
            continue
        if rows and ids is not None:
            if int(ids.min()) < 0 or int(ids.max()) >= info.shape[0]:
                continue
            lent = _open(target, file, name)[ids]
        else:
            lent = _open(target, file, name)
        if torch.equal(lent.view(torch.int16), tensor.view(torch.int16)):  # bits: -0.0 is not 0.0
            shape = tuple(tensor.shape)
            return Loan(name, shape, tensor_sha256(target.folder, file, name, target.root), rows)
    return None


def _same_file(ours: Path, theirs: Path) -> bool:
    return ours.is_file() and theirs.is_file() and file_sha256(ours) == file_sha256(theirs)
