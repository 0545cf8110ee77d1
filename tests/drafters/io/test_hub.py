"""Models named on the Hub: resolved to a commit, downloaded at it, found again without a network, refused with a reason.

The Hub is a server on this machine that huggingface_hub's own client speaks to; its cache is laid out as that client does.
"""

import json
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from drafters.io.hub import commit_of, on_hub, resolve
from drafters.package_error import PackageError
from tests.drafters.publish import hub_server

FILES = {"config.json": b"{}", "model.safetensors": b"\x02\0\0\0\0\0\0\0{}", "evil.py": b"raise SystemExit"}
PATTERNS = ["*.json", "*.safetensors"]
FIX = "Give a local model folder with pair.target=DIR."
NAME = "org/model"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    return tmp_path / "hub"


@pytest.fixture
def hub(monkeypatch, cache):
    found, server = hub_server.serve()
    monkeypatch.setattr(constants, "ENDPOINT", found.endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", found.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    repo = found.repos[NAME] = hub_server.Repo(private=False)
    repo.refs["main"] = repo.add(FILES)
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def offline(monkeypatch):
    """No answer from any Hub, as without a network."""

    def silent(self, *args, **kwargs):
        raise ConnectionError("no route")

    for question in ("model_info", "repo_info", "auth_check"):
        monkeypatch.setattr(huggingface_hub.HfApi, question, silent)


def fabricate(cache: Path, commit: str, name: str = NAME, ref: str = "main") -> Path:
    """A repository in the layout of the Hub's cache: refs, snapshots, blobs."""
    root = cache / f"models--{name.replace('/', '--')}"
    snapshot = root / "snapshots" / commit
    for folder in (root / "refs", root / "blobs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    (root / "refs" / ref).write_text(commit)
    for file in ("config.json", "model.safetensors"):
        (root / "blobs" / file).write_bytes(FILES[file])
        (snapshot / file).symlink_to(f"../../blobs/{file}")
    return snapshot


def test_a_name_is_resolved_once_and_said(hub):
    commit = hub.repos[NAME].refs["main"]
    with pytest.warns(UserWarning, match=f"org/model resolved to {commit}; give that as its revision to pin it"):
        source = resolve(NAME, None, PATTERNS, FIX)
    assert (source.id, source.revision) == (NAME, commit)
    assert sorted(path.name for path in source.folder.iterdir()) == ["config.json", "model.safetensors"]
    assert source.folder.parent.parent == source.root


def test_what_is_pinned_stays_when_the_branch_moves_on(hub, recwarn):
    repo = hub.repos[NAME]
    commit = repo.refs["main"]
    repo.tags["v1"] = commit
    repo.refs["main"] = repo.add({**FILES, "config.json": b'{"new": 1}'})
    assert resolve(NAME, commit, PATTERNS, FIX).revision == commit
    assert not recwarn.list  # nothing to say of a commit
    assert commit_of(NAME, "v1", FIX) == commit
    assert commit_of(NAME, None, FIX) == commit_of(NAME, "main", FIX) == repo.refs["main"] != commit


def test_without_a_network_the_cache_holds_what_was_seen_last(hub):
    with pytest.warns(UserWarning, match="resolved to"):
        online = resolve(NAME, None, PATTERNS, FIX)
    hub.repos[NAME].refs["main"] = hub.repos[NAME].add({})  # nobody here hears of it
    hub.fault = lambda number, method, path: "drop"
    with pytest.warns(UserWarning, match=f"resolved to {online.revision}"):
        assert resolve(NAME, None, PATTERNS, FIX) == online


def test_a_cache_that_another_tool_filled_is_used_offline(cache, offline):
    snapshot = fabricate(cache, "c" * 40)
    assert commit_of(NAME, None, FIX) == commit_of(NAME, "main", FIX) == "c" * 40
    with pytest.warns(UserWarning, match="resolved to c"):
        assert resolve(NAME, None, PATTERNS, FIX).folder == snapshot.resolve()
    assert resolve(NAME, "c" * 40, PATTERNS, FIX).revision == "c" * 40


def test_neither_hub_nor_cache(cache, offline):
    with pytest.raises(
        PackageError, match=r"org/model: download: expected its newest commit from the Hub, or from its "
    ):
        resolve(NAME, None, PATTERNS, FIX)
    fabricate(cache, "c" * 40)
    with pytest.raises(
        PackageError, match=r"expected revision v2 from the Hub.*got ConnectionError: no route\. Give a loc"
    ):
        resolve(NAME, "v2", PATTERNS, FIX)
    (cache / "models--org--model" / "refs" / "main").write_text("../../evil")  # no commit: not followed
    with pytest.raises(PackageError, match="no route"):
        commit_of(NAME, None, FIX)


@pytest.mark.filterwarnings("ignore:org/model resolved")
def test_what_the_hub_refuses_says_how_to_get_it(hub):
    hub.repos[NAME].gated = True
    page = f"{hub.endpoint}/org/model"
    with pytest.raises(
        PackageError, match=f"gated.* no access to. Accept its licence at {page}, then log in with .hf auth"
    ):
        resolve(NAME, None, PATTERNS, FIX)
    with pytest.raises(
        PackageError, match=r"no repository of this name that you may see\. Correct the name; for a priv"
    ):
        resolve("org/modle", None, PATTERNS, FIX)
    with pytest.raises(
        PackageError, match=f"no such revision. Choose one of {page}/commits. Or give a local model folder"
    ):
        resolve(NAME, "nonesuch", PATTERNS, FIX)


@pytest.mark.parametrize(
    ("text", "named"),
    [("org/name", True), ("gpt2", True), ("a/b/c", False), ("../x", False), ("runs/x", False), ("drafters/x", False),
     ("drafters/zoo/pycode/target", False), ("/etc", False), ("tests", False), ("org/..name", False), ("", False)],
)  # fmt: skip
def test_what_can_be_a_name_of_the_hub(text, named):
    assert on_hub(text) == named


def test_a_pair_by_name_records_its_commits(hub, tmp_path):
    """The embedded pair, as if it lay on the Hub: the pair's revisions are what the package and its card will name."""
    from drafters.models.pair import load_pair

    zoo = Path(__file__).resolve().parents[3] / "drafters" / "zoo" / "pycode"
    for role in ("target", "drafter"):
        repo = hub.repos[f"org/{role}"] = hub_server.Repo(private=False)
        repo.refs["main"] = repo.add(
            {path.name: path.read_bytes() for path in (zoo / role).iterdir() if path.is_file()}
        )
    commits = tuple(hub.repos[f"org/{role}"].refs["main"] for role in ("target", "drafter"))
    with pytest.warns(UserWarning, match="org/drafter resolved to"):
        pair = load_pair(target="org/target", drafter="org/drafter", device="cpu")
    assert pair.revisions == commits
    assert json.loads((zoo / "target" / "config.json").read_text())["vocab_size"] == pair.vocabulary
