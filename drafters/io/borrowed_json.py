"""``borrowed.json``: the tensors and files that a folder leaves to its target, by name, shape and hash of their bytes.

The format's rules; `drafters.models.borrowed` writes such folders and completes them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from drafters.io.hub import Source
from drafters.io.json_fields import Fields, is_integer
from drafters.io.json_rules import COMMIT_OR_HASH
from drafters.io.safe_load import DAMAGED, TensorInfo, read_json
from drafters.package_error import PackageError

BORROWED = "borrowed.json"
FORMAT = 1
ROWS = "to_target"  # of vocab.safetensors: the target id of each kept row
DTYPE, DTYPE_NAME = "BF16", "bf16"  # in a header, and here: the only one that tensors are borrowed in
FILES = ("tokenizer.json",)
MOST_TENSORS = 4096
MOST_USES = 2  # of one source: embedding and head. A complete folder is thus bounded by twice the target's size
LENDER = re.compile(r"[\w./+:=@~-]{1,200}")
TENSOR = re.compile(r"\w[\w.-]{0,199}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Loan:
    """One borrowed tensor."""

    source: str  # its name in the target
    shape: tuple[int, ...]  # as the drafter has it
    sha256: str  # of the bytes of the whole source, also where only rows of it are borrowed
    rows: bool = False  # the source's rows ROWS, one for each that the drafter's head kept

    @property
    def info(self) -> TensorInfo:
        """What a complete folder's header would say of it."""
        return TensorInfo(DTYPE, self.shape)


@dataclass(frozen=True)
class Borrowed:
    """The whole of a ``borrowed.json``."""

    lender: str  # the target's id where the file was written; a name to look for, and no proof
    revision: str | None  # its commit, or sha256:<hex> of its folder
    tensors: Mapping[str, Loan]
    files: Mapping[str, str] = field(default_factory=dict)  # name -> SHA-256

    @property
    def bytes(self) -> int:
        """What the borrowed tensors take in a complete folder."""
        return sum(loan.info.bytes for loan in self.tensors.values())

    def __str__(self) -> str:
        """What is borrowed of whom, in words."""
        parts = [*(f"{name} (rows)" if loan.rows else name for name, loan in self.tensors.items()), *self.files]
        return f"{', '.join(parts)} of {self.lender} ({self.bytes / 1e6:,.1f} MB of tensors)"

    def missing_target(self) -> PackageError:
        """The error for a folder that is opened alone."""
        fix = (
            f"Give {self.lender} as its target: pair.target=DIR beside pair.drafter=DIR, or "
            "drafters.load(DIR, target=DIR); stage=export writes a complete model."
        )
        return PackageError(BORROWED, "from", "the target that this folder borrows from", "no target", fix)

    def as_json(self) -> dict[str, object]:
        """The object that `read_borrowed` reads."""
        tensors = {
            name: {"source": loan.source, "shape": list(loan.shape), "dtype": DTYPE_NAME, "sha256": loan.sha256}
            | ({"rows": ROWS} if loan.rows else {})
            for name, loan in self.tensors.items()
        }
        lender = {"id": self.lender, "revision": self.revision}
        return {"format": FORMAT, "from": lender, "tensors": tensors, "files": dict(self.files)}


def borrows(source: Source) -> bool:
    """Tell whether a folder lacks what its target has."""
    return (source.folder / BORROWED).exists()


def read_borrowed(source: Source) -> Borrowed:
    """The checked ``borrowed.json`` of a folder.

    Raises:
        PackageError: an unknown key, a value out of range, a newer format, or a source that is borrowed more than MOST_USES times.
    """
    return parse_borrowed(read_json(source.folder, BORROWED, root=source.root))


def parse_borrowed(data: Mapping[str, Any]) -> Borrowed:
    """The rules of `read_borrowed` on a parsed object."""
    whole = Fields(data, BORROWED, DAMAGED)
    if is_integer(data.get("format"), FORMAT + 1, float("inf")):
        fix = "Upgrade drafters: pip install --upgrade drafters."
        raise PackageError(BORROWED, "format", f"at most {FORMAT}", data["format"], fix)
    whole.keys(["format", "from", "tensors", *({"files"} & set(data))])
    whole.integer("format", FORMAT, FORMAT)
    lender = whole.child("from")
    lender.keys(("id", "revision"))
    listed = whole.child("tensors")
    if len(listed.data) > MOST_TENSORS:
        raise whole.wrong("tensors", f"at most {MOST_TENSORS:,} tensors", f"{len(listed.data):,}")
    tensors = {name: _loan(listed, name) for name in listed.data}
    sources = [loan.source for loan in tensors.values()]
    if often := next((name for name in sources if sources.count(name) > MOST_USES), None):
        raise whole.wrong("tensors", "each source at most twice", often)
    files = whole.child("files") if "files" in data else None
    if files is not None and (other := sorted(set(files.data) - set(FILES))):
        raise files.wrong(other[0], f"only {', '.join(FILES)}", "another file")
    return Borrowed(
        lender.text("id", LENDER),
        None if lender.null("revision") else lender.text("revision", COMMIT_OR_HASH),
        tensors,
        {} if files is None else {name: files.text(name, SHA256) for name in files.data},
    )


def _loan(listed: Fields, name: str) -> Loan:
    if not TENSOR.fullmatch(name):
        raise listed.wrong(name, "a tensor's name", name)
    entry = listed.child(name)
    rows = "rows" in entry.data
    entry.keys(["source", "shape", "dtype", "sha256", *(["rows"] if rows else [])])
    entry.one_of("dtype", (DTYPE_NAME,))
    shape = entry.data["shape"]
    sizes = isinstance(shape, list) and 1 <= len(shape) <= 8 and all(is_integer(size, 1, 1 << 32) for size in shape)
    if not sizes:
        raise entry.wrong("shape", "1 to 8 positive integers", shape)
    if rows:
        entry.one_of("rows", (ROWS,))
    return Loan(entry.text("source", TENSOR), tuple(shape), entry.text("sha256", SHA256), rows)
