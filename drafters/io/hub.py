"""Where a model or package lies: a local folder, or a Hub repository at one pinned commit."""

import re
from dataclasses import dataclass
from pathlib import Path

from drafters.io.paths import REPOSITORY
from drafters.package_error import PackageError

HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?")
REVISION = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Source:
    """A folder that exists. ``root`` bounds its links: itself, or for a Hub snapshot the repository's cache folder."""

    folder: Path
    root: Path
    id: str  # as the user wrote it
    revision: str | None  # 40 hex digits for a Hub repository, None for a local folder


def resolve(where: str | Path, revision: str | None, patterns: list[str], fix: str) -> Source:
    """The folder behind a path or Hub id, downloaded if need be (``patterns`` only, and only at a pinned commit).

    Args:
        fix: what to do when the Hub cannot be reached, for example ``pair.target=DIR``.

    Raises:
        PackageError: no such folder, no pinned revision, or the Hub does not give it.
    """
    text = str(where)
    path = Path(text).expanduser()
    for candidate in (path, REPOSITORY / path) if text.startswith("drafters/") else (path,):
        if candidate.is_dir():
            return local_source(candidate, text)
    if path.exists():
        raise PackageError(text, "path", "a folder", "a file", fix)
    if isinstance(where, Path) or not HUB_ID.fullmatch(text) or ".." in text or text.startswith(("drafters/", "runs/")):
        raise PackageError(text, "path", "an existing folder, or a Hub id such as org/name", "no such folder", fix)
    if revision is None or not REVISION.fullmatch(revision):
        advice = f"Pin a revision (the commit shown on the model's page on the Hub), or {fix[0].lower()}{fix[1:]}"
        raise PackageError(text, "revision", "a commit of 40 hex digits, as a branch can change", revision, advice)
    return _download(text, revision, patterns, fix)


def local_source(path: Path, name: str) -> Source:
    """The source of an existing folder. One inside the Hub's own cache may link to its repository's blobs."""
    folder = path.resolve()
    cached = folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--")
    return Source(folder, folder.parent.parent if cached else folder, name, None)


def _download(repository: str, revision: str, patterns: list[str], fix: str) -> Source:
    from huggingface_hub import HfApi, snapshot_download

    # Any exception: the HTTP client underneath, and with it the errors, changed between versions of huggingface_hub.
    reason: Exception | None = None
    try:
        # Asked first because it fails at once without a network, where the download itself would retry for half a
        # minute.
        HfApi().repo_info(repository, revision=revision, timeout=10)
    except Exception as error:
        reason = error
    try:
        found = snapshot_download(
            repository, revision=revision, allow_patterns=patterns, local_files_only=reason is not None
        )
    except Exception as error:
        cause = reason or error
        expected = f"revision {revision} from the Hub, or from its local cache"
        raise PackageError(repository, "download", expected, f"{type(cause).__name__}: {cause}", fix) from cause
    folder = Path(found)
    # snapshots/<revision>/<file> links to blobs/<hash> two levels up
    return Source(folder.resolve(), folder.resolve().parent.parent, repository, revision)
