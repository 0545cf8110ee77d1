"""Where a model or package lies: a local folder, or a Hub repository at one commit."""

import contextlib
import re
import warnings
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
    revision: str | None  # 40 hex digits for a Hub repository, sha256:<hex> of a GGUF file, None for a local folder
    given: Path | None = None  # of a folder completed from its target: the one that it was made of

    @property
    def home(self) -> Path:
        """The folder that the user named: its place says whose it is, where `folder` may lie in a cache."""
        return self.given or self.folder


def resolve(where: str | Path, revision: str | None, patterns: list[str], fix: str) -> Source:
    """The folder behind a path or Hub id, downloaded if need be (``patterns`` only, and at one commit).

    Args:
        revision: 40 hex digits pin a commit. A branch or tag, or None for the newest, is resolved to one now, see
            `commit_of`, with a warning that names it.
        fix: what to do when the Hub cannot be reached, for example ``Give a local folder with pair.target=DIR.``

    Raises:
        PackageError: no such folder or repository, or the Hub does not give it.
    """
    text = str(where)
    if (folder := _folder(text)) is not None:
        return local_source(folder, text)
    if Path(text).expanduser().exists():
        raise PackageError(text, "path", "a folder", "a file", fix)
    if isinstance(where, Path) or not on_hub(text):
        raise PackageError(text, "path", "an existing folder, or a Hub id such as org/name", "no such folder", fix)
    commit = commit_of(text, revision, fix)
    if commit != revision:
        warnings.warn(f"{text} resolved to {commit}; give that as its revision to pin it", stacklevel=3)
    return _download(text, commit, patterns, fix)


def _folder(text: str) -> Path | None:
    path = Path(text).expanduser()
    candidates = (path, REPOSITORY / path) if text.startswith("drafters/") else (path,)
    return next((candidate for candidate in candidates if candidate.is_dir()), None)


def on_hub(text: str) -> bool:
    """Whether this names a repository of the Hub: nothing that exists here, and nothing that only a path can be."""
    path_only = text.startswith(("drafters/", "runs/")) or text.endswith(".gguf")
    named = HUB_ID.fullmatch(text) is not None and ".." not in text and not path_only
    return named and _folder(text) is None and not Path(text).exists()


def commit_of(repository: str, revision: str | None, fix: str) -> str:
    """Find the commit, 40 hex digits, that a branch or tag stands for; None: the newest of the main branch.

    A commit is returned as it is. The Hub is asked once; where it does not answer, what its local cache last saw counts.
    Raises PackageError as `refusal` says it.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    if revision is not None and REVISION.fullmatch(revision):
        return revision
    # Any exception: the HTTP client underneath, and with it the errors, changed between versions of huggingface_hub.
    branch = revision or "main"
    try:
        found = str(HfApi().model_info(repository, revision=revision, timeout=10).sha)
    except Exception as error:
        cached = try_to_load_from_cache(repository, "config.json", revision=branch)
        found = Path(cached).parent.name if isinstance(cached, str) else ""
        if not REVISION.fullmatch(found):
            raise refusal(error, repository, revision, fix) from error
        return found
    _remember(repository, branch, found)
    return found


def _remember(repository: str, branch: str, commit: str) -> None:
    """Note in the Hub's cache what a branch stands for, as its own client does, so that it is known without a network."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    if HUB_ID.fullmatch(branch) and "/" not in branch:
        place = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model") / "refs" / branch
        with contextlib.suppress(OSError):  # a cache that others fill: then it is asked for again
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(commit)


def refusal(error: Exception, repository: str, revision: str | None, fix: str) -> PackageError:
    """Say what the Hub's error about a repository means, and what gives access to it."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    page, what = f"{constants.ENDPOINT}/{repository}", f"revision {revision}" if revision else "its newest commit"
    otherwise = f"Or {fix[0].lower()}{fix[1:]}"
    if isinstance(error, GatedRepoError):
        got = "a gated repository that you have no access to"
        fix = f"Accept its licence at {page}, then log in with `hf auth login`. {otherwise}"
    elif isinstance(error, RepositoryNotFoundError):
        got = "no repository of this name that you may see"
        fix = f"Correct the name; for a private one log in with `hf auth login`. {otherwise}"
    elif isinstance(error, RevisionNotFoundError):
        got, fix = "no such revision", f"Choose one of {page}/commits. {otherwise}"
    else:
        got = f"{type(error).__name__}: {error}"
    return PackageError(repository, "download", f"{what} from the Hub, or from its local cache", got, fix)


def local_source(path: Path, name: str) -> Source:
    """The source of an existing folder. One inside the Hub's own cache may link to its repository's blobs."""
    folder = path.resolve()
    cached = folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--")
    return Source(folder, folder.parent.parent if cached else folder, name, None)


def _download(repository: str, revision: str, patterns: list[str], fix: str) -> Source:
    from huggingface_hub import HfApi, snapshot_download

    reason: Exception | None = None
    try:
        # Asked first because it fails at once without a network, where the download itself would retry for half a
        # minute.
        HfApi().repo_info(repository, revision=revision, timeout=10)
    except Exception as error:  # as in `commit_of`
        reason = error
    try:
        found = snapshot_download(
            repository, revision=revision, allow_patterns=patterns, local_files_only=reason is not None
        )
    except Exception as error:
        cause = reason or error
        raise refusal(cause, repository, revision, fix) from cause
    folder = Path(found)
    # snapshots/<revision>/<file> links to blobs/<hash> two levels up
    return Source(folder.resolve(), folder.resolve().parent.parent, repository, revision)
