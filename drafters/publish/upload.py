"""One folder, one commit: publishes a rendered package so that no revision of the repository is ever half of one.

Big files go up first and belong to nobody until a single commit names them all; that commit carries the parent it was
made for, opens a pull request, and is compared file by file with the folder before anything is merged, tagged or made
public. Every step looks at what is there before it acts, so the same call after any failure goes on where it stopped,
and a call after success changes nothing. (`upload_folder` of huggingface_hub commits in several parts.)
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.hf_api import RepoFile

from drafters.errors import DraftersError
from drafters.io.safe_load import list_files
from drafters.io.secrets import require_clean
from drafters.package.integrity import IGNORED, OPTIONAL, REQUIRED

THEIRS = {".gitattributes"}  # the Hub writes it when a repository is made
OURS = {"manifest.json", *REQUIRED, *OPTIONAL}
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
AGAIN = "Run the same command again: it goes on from what has arrived."
Value = TypeVar("Value")


class UploadError(DraftersError):
    """The Hub refused, failed, or holds something else than was sent; what users see there is as it was before."""


@dataclass(frozen=True)
class Receipt:
    """What is on the Hub now."""

    repository: str
    commit: str  # 40 hex digits that hold exactly the folder's files
    pull_request: int | None  # open, and not merged yet
    tag: str | None
    public: bool
    changed: bool  # False: everything was there already


def publish_folder(
    api: HfApi, repository: str, folder: Path, tag: str, *, merge: bool = False, public: bool = False
) -> Receipt:
    """Bring ``folder`` to the Hub as one commit and give it ``tag``.

    Args:
        merge: merge the pull request once it has been verified, and tag the result; else it stays open for review.
        public: make the repository public after that. A new repository is private until then.

    Raises:
        UploadError: see there. SecretFound: the folder holds a secret; nothing was sent.
    """
    if not REPOSITORY.fullmatch(repository) or ".." in repository:
        raise UploadError(f"publish.repo={repository}: expected org/name, for example publish.repo=me/my-drafter")
    require_clean(folder)
    _try(f"create {repository}", lambda: api.create_repo(repository, private=True, exist_ok=True))
    main = _head(api, repository)
    number, changed = None, False
    if differences(api, repository, main, folder):
        number = _open_request(api, repository, folder, tag)
        if number is None:
            number, changed = _commit(api, repository, folder, tag, main), True
        revision = _head(api, repository, f"refs/pr/{number}")
        _require_same(api, repository, revision, folder)
        if not merge:
            return Receipt(repository, revision, number, None, _is_public(api, repository), changed)
        merged = number
        _try(f"merge pull request {number}", lambda: api.merge_pull_request(repository, merged))
        changed = True
        main = _head(api, repository)
        _require_same(api, repository, main, folder)
    changed |= _tag(api, repository, main, folder, tag)
    if public and not _is_public(api, repository):
        _try("make the repository public", lambda: api.update_repo_settings(repository, private=False))
        changed = True
    return Receipt(repository, main, None, tag, _is_public(api, repository), changed)


def differences(api: HfApi, repository: str, revision: str, folder: Path) -> list[str]:
    """Names of files that a revision lacks, has besides, or has with other content (SHA-256, or git's SHA-1)."""
    found = _try(
        f"compare {revision[:12]} with the folder",
        lambda: api.verify_repo_checksums(repository, revision=revision, local_dir=folder),
    )
    beside = set(found.missing_paths) - THEIRS  # missing here, so beside there
    return sorted(beside | set(found.extra_paths) | {entry["path"] for entry in found.mismatches})


def _commit(api: HfApi, repository: str, folder: Path, tag: str, parent: str) -> int:
    """Upload and commit everything as one pull request; returns its number."""
    names = list_files(folder)
    stale = [name for name in _remote_files(api, repository, parent) if name not in names and name not in THEIRS]
    if strange := [name for name in stale if name not in OURS and not IGNORED.fullmatch(name)]:
        raise UploadError(
            f"{repository} holds {strange[0]!r}, which is no file of a package, and publishing would have to remove it: "
            "remove it yourself, or choose another publish.repo"
        )
    additions = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in names]
    _try(
        "upload the big files",
        lambda: api.preupload_lfs_files(repository, additions, create_pr=True, free_memory=False),
    )
    info = _try(
        "commit",
        lambda: api.create_commit(
            repository,
            [*additions, *(CommitOperationDelete(path_in_repo=name) for name in stale)],
            commit_message=title(tag),
            commit_description=f"All {len(names)} files of the package and what is published beside it, in one commit.",
            parent_commit=parent,
            create_pr=True,
        ),
    )
    if info.pr_num is None:
        raise UploadError(f"{repository}: expected the commit to open a pull request, the Hub opened none. {AGAIN}")
    return info.pr_num


def title(tag: str) -> str:
    """Of the commit and its pull request; by it a later call finds a request whose answer was lost."""
    return f"Drafter package {tag}"


def _open_request(api: HfApi, repository: str, folder: Path, tag: str) -> int | None:
    """An open pull request of an earlier call whose content is the folder's, None if there is none."""
    requests = _try(
        "list pull requests",
        lambda: list(api.get_repo_discussions(repository, discussion_type="pull_request", discussion_status="open")),
    )
    for request in requests:
        if request.title == title(tag) and not differences(api, repository, f"refs/pr/{request.num}", folder):
            return int(request.num)
    return None


def _tag(api: HfApi, repository: str, revision: str, folder: Path, tag: str) -> bool:
    """Make sure that ``tag`` names these files; True if it was set now."""
    refs = _try("list tags", lambda: api.list_repo_refs(repository))
    there = next((ref for ref in refs.tags if ref.name == tag), None)
    if there is None:
        _try(f"tag {tag}", lambda: api.create_tag(repository, tag=tag, revision=revision, exist_ok=True))
        return True
    if wrong := differences(api, repository, there.target_commit, folder):
        raise UploadError(
            f"{repository}: tag {tag} exists with another {wrong[0]}: a tag never moves; publish under another publish.tag"
        )
    return False


def _require_same(api: HfApi, repository: str, revision: str, folder: Path) -> None:
    if wrong := differences(api, repository, revision, folder):
        raise UploadError(
            f"{repository} at {revision[:12]}: {len(wrong)} files differ from what was sent, first {wrong[0]}: "
            f"nothing was merged, tagged or made public after that. {AGAIN}"
        )


def _head(api: HfApi, repository: str, revision: str | None = None) -> str:
    info = _try(f"read {revision or 'main'}", lambda: api.repo_info(repository, revision=revision))
    if not info.sha:
        raise UploadError(f"{repository}: the Hub names no commit for {revision or 'main'}. {AGAIN}")
    return str(info.sha)


def _remote_files(api: HfApi, repository: str, revision: str) -> list[str]:
    entries = _try("list files", lambda: list(api.list_repo_tree(repository, recursive=True, revision=revision)))
    return [entry.path for entry in entries if isinstance(entry, RepoFile)]


def _is_public(api: HfApi, repository: str) -> bool:
    return not _try("read the settings", lambda: api.repo_info(repository)).private


def _try(what: str, act: Callable[[], Value]) -> Value:
    """Run one step. Whatever the client raises becomes an UploadError that says which step it was."""
    try:
        return act()
    except UploadError:
        raise
    except Exception as error:  # HTTP, connection, timeout, malformed answers: the client has no common base for them
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UploadError(f"could not {what}: {reason[:300]}. Nothing is half-published. {AGAIN}") from error
