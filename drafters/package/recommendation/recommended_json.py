"""``recommended.json``: what the evaluation of one package found best to decode with, per temperature, on one machine.

It lies in a published folder beside the package's files, or beside a local package's directory as
``<directory>.recommended.json``: a package's own bytes never depend on how it performed. It names its package by the hash
of that package's content, so that the recommendation of another one is refused. Like all that comes with a package it is
data of others: `uses` says what it may ask for.
"""

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from drafters.io.atomic import fsync_directory, write_atomic
from drafters.io.hub import Source, local_source
from drafters.io.json_fields import Fields
from drafters.io.json_rules import COMMIT_OR_HASH
from drafters.io.json_rules import NAME as TEXT
from drafters.io.manifest import NAME as MANIFEST
from drafters.io.manifest import Manifest, content_hash
from drafters.io.model_json import MAX_VOCABULARY
from drafters.io.safe_load import MAX_MANIFEST_BYTES, read_json
from drafters.package.integrity import RECOMMENDED as NAME
from drafters.package.recommendation.choices import SCHEMA
from drafters.package.recommendation.choices import Choice as Choice
from drafters.package.recommendation.choices import Rated as Rated
from drafters.package.recommendation.choices import Recommendation as Recommendation
from drafters.package.recommendation.choices import Speedup as Speedup
from drafters.package.recommendation.choices import Target as Target
from drafters.package.recommendation.choices import Use as Use
from drafters.package.recommendation.uses import check_use
from drafters.package_error import PackageError
from drafters.samplers.lossy_settings import same_law

FIX = "Run `make eval` again for this package, or delete the file: decoding then takes its defaults."
MAX_BYTES, MAX_CHOICES, MAX_NEXT = 256 << 10, 32, 16
DEVICES, MEASURES = ("cpu", "cuda", "mps"), ("clock", "model")
_HASH, _SHA256 = re.compile(r"[0-9a-f]{16,64}"), re.compile(r"[0-9a-f]{64}")
_SENTENCE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]{1,600}")  # one line, as it reads


def find_recommendation(folder: str | Path) -> Path | None:
    """Where the recommendation for the package in ``folder`` lies: inside, else beside it; None where there is none."""
    folder = Path(folder).resolve()
    inside, beside = folder / NAME, folder.with_name(f"{folder.name}.{NAME}")
    return next((path for path in (inside, beside) if path.is_symlink() or path.exists()), None)


def read_recommendation(folder: str | Path) -> Recommendation:
    """The recommendation for the package in ``folder``.

    Raises:
        PackageError: there is none, it is malformed, or it is for another package.
    """
    source = local_source(Path(folder), str(folder))
    path = find_recommendation(source.folder)
    if path is None:
        fix = "Run `make eval` for this package."
        raise PackageError(NAME, "file", "a recommendation in the package's folder or beside it", "none", fix)
    files = read_json(source.folder, MANIFEST, MAX_MANIFEST_BYTES, source.root).get("files")
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        raise PackageError(MANIFEST, "files", "an object of objects", files, "Give a package's folder.")
    return read_file(path, content_hash(files), _bound(source, path))


def read_file(path: Path, package: str, root: Path | None = None) -> Recommendation:
    """The recommendation in a file, which must be for the package of that content hash. ``root``: see `safe_load.locate`.

    Raises PackageError.
    """
    found = parse(read_json(path.parent, path.name, MAX_BYTES, root), path.name)
    if found.package != package:
        raise PackageError(path.name, "package", f"{package}, this package's content", found.package, FIX)
    return found


def recommendation_of(source: Source, manifest: Manifest) -> Recommendation | None:
    """The recommendation for a package that is being loaded; None where there is none, or, with a warning, a broken one.

    It is advice: nothing in it can make a good package bad.
    """
    try:
        path = find_recommendation(source.folder)
        return None if path is None else read_file(path, manifest.content, _bound(source, path))
    except (PackageError, OSError) as error:
        warnings.warn(f"recommendation not used: {error}", stacklevel=3)
        return None


def _bound(source: Source, path: Path) -> Path | None:
    """What a link may not leave: inside a package what its files may not, beside it the folder that both lie in."""
    return source.root if path.parent == source.folder else None


def write_recommendation(path: str | Path, recommendation: Recommendation) -> None:
    """Write a file that is whole or as it was before, whatever kills the process. Raises PackageError for a value that
    the reader would refuse."""
    path = Path(path)
    text = to_json(recommendation)
    parse(json.loads(text), path.name)
    write_atomic(path, text.encode())
    fsync_directory(path.parent)


def to_json(recommendation: Recommendation) -> str:
    """The text of the file: the same recommendation gives the same bytes. Raises ValueError for NaN or infinity."""
    text = json.dumps(asdict(recommendation), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text + "\n"


def parse(data: Mapping[str, Any], file: str = NAME) -> Recommendation:
    """The recommendation that a JSON object is. Raises PackageError for an unknown key or a value out of range."""
    top = Fields(data, file, FIX)
    if "schema" in data and top.integer("schema", 1, 1 << 30) != SCHEMA:
        fix = "Upgrade drafters: pip install --upgrade drafters."
        raise PackageError(file, "schema", f"at most {SCHEMA}", data["schema"], fix)
    top.keys(Recommendation.__dataclass_fields__)
    target = top.child("target")
    target.keys(("id", "revision"))
    choices = tuple(_choice(item) for item in top.children("choices", 1, MAX_CHOICES))
    for index, choice in enumerate(choices):
        if any(same_law(choice.sampling, earlier.sampling) for earlier in choices[:index]):
            raise top.wrong(f"choices[{index}]", "one choice per temperature, top_k and top_p", "a second one")
    return Recommendation(
        package=top.text("package", _SHA256),
        target=Target(
            target.text("id", TEXT), None if target.null("revision") else target.text("revision", COMMIT_OR_HASH)
        ),
        pair=top.text("pair", TEXT),
        suite=top.text("suite", TEXT),
        device=top.one_of("device", DEVICES),
        dtype=top.text("dtype", TEXT),
        threads=top.integer("threads", 1, 1 << 16),
        code=top.text("code", _HASH),
        choices=choices,
    )


def _choice(item: Fields) -> Choice:
    item.keys(Choice.__dataclass_fields__)
    top_p = item.number("top_p", 0, 1)
    if not top_p > 0:
        raise item.wrong("top_p", "a number above 0", top_p)
    return Choice(
        **_rated(item),
        temperature=item.number("temperature", 0, 100),
        top_k=item.integer("top_k", 0, MAX_VOCABULARY),
        top_p=top_p,
        reason=item.text("reason", _SENTENCE),
        next=tuple(_next(other) for other in item.children("next", 0, MAX_NEXT)),
    )


def _next(item: Fields) -> Rated:
    item.keys(Rated.__dataclass_fields__)
    return Rated(**_rated(item))


def _rated(item: Fields) -> dict[str, Any]:
    use, speedup = item.child("use"), item.child("speedup")
    check_use(use)
    speedup.keys(Speedup.__dataclass_fields__)
    found = Speedup(*(speedup.number(name, 0, 1e4) for name in Speedup.__dataclass_fields__))
    if not found.low <= found.high:
        raise speedup.wrong("low", f"at most high, {found.high:g}", found.low)
    return {
        "use": Use(**use.data),
        "speedup": found,
        "by": item.one_of("by", MEASURES),
        "predicted": item.number("predicted", 0, 1e4),
        "prompts": item.integer("prompts", 0, 1 << 30),
    }
