"""Publishing through the real client over HTTP: one commit, verified, and no fault leaves half a revision."""

import importlib.util
import json
import shutil
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import HfApi, constants
from huggingface_hub.utils._http import default_client_factory

from drafters.io.secrets import SecretFound
from drafters.package.reader import load
from drafters.publish import upload
from drafters.publish.upload import UploadError, differences, publish_folder
from drafters.rounding import excess, logits_bound

spec = importlib.util.spec_from_file_location("hub_server", Path(__file__).with_name("hub_server.py"))
hub_server = importlib.util.module_from_spec(spec)
sys.modules["hub_server"] = hub_server
spec.loader.exec_module(hub_server)

REPO, TAG = "org/tiny-drafter", "v1-abc"
CARD = "---\nlicense: mit\ntags:\n- drafters\n---\n\n# tiny\n"


def wait_for_answers(seconds: float) -> None:
    """How long the client waits for one."""
    client = type(huggingface_hub.get_session())
    huggingface_hub.set_client_factory(lambda: client(timeout=seconds, follow_redirects=True, verify=False))


@pytest.fixture
def hub(monkeypatch):
    found, server = hub_server.serve()
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the storage behind Xet is not spoken here
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client's own pauses between its tries
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    wait_for_answers(30.0)  # no busy machine is slower
    yield found
    huggingface_hub.set_client_factory(default_client_factory)
    server.shutdown()
    server.server_close()


@pytest.fixture
def api(hub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=hub_server.TOKEN)


@pytest.fixture
def folder(package) -> Path:
    (package / "README.md").write_text(CARD)
    (package / "certificate.json").write_text("{}")
    (package / "eval").mkdir()
    (package / "eval" / "report.json").write_text("{}")
    return package


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def published(repo) -> dict[str, bytes]:
    return {name: data for name, data in repo.commits[repo.refs["main"]].items() if name != ".gitattributes"}


def test_a_pull_request_first(api, hub, folder):
    receipt = publish_folder(api, REPO, folder, TAG)
    repo = hub.repos[REPO]
    assert (receipt.pull_request, receipt.tag, receipt.public, receipt.changed) == (1, None, False, True)
    assert published(repo) == {}
    assert repo.private
    held = repo.commits[receipt.commit]
    assert {name: held[name] for name in files(folder)} == files(folder)
    assert set(held) - set(files(folder)) == {".gitattributes"}
    again = publish_folder(api, REPO, folder, TAG)
    assert (again.changed, again.commit, len(repo.requests)) == (False, receipt.commit, 1)


def test_one_commit_then_merged_tagged_verified_public_and_then_nothing(api, hub, folder):
    receipt = publish_folder(api, REPO, folder, TAG, merge=True, public=True)
    repo = hub.repos[REPO]
    assert published(repo) == files(folder)
    assert (len(repo.history), repo.tags, repo.private) == (2, {TAG: receipt.commit}, False)
    assert sum(path.endswith("/commit/main") for _, path in hub.log) == 1
    assert differences(api, REPO, TAG, folder) == []
    commits, calls = len(repo.commits), len(hub.log)
    again = publish_folder(api, REPO, folder, TAG, merge=True, public=True)
    assert (again.changed, again.commit, len(repo.commits)) == (False, receipt.commit, commits)
    assert {method for method, _ in hub.log[calls:]} == {"GET", "POST"}
    assert [path for method, path in hub.log[calls:] if method == "POST"] == ["/api/repos/create"]


@pytest.mark.floats
def test_what_was_published_loads_at_its_commit(api, hub, folder, monkeypatch, tmp_path):
    receipt = publish_folder(api, REPO, folder, TAG, merge=True, public=True)
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    loaded = load(REPO, revision=receipt.commit, device="cpu")
    ids = torch.tensor([[1, 7, 20]])
    again = load(folder, device="cpu")
    assert all(torch.equal(value, again.model.state_dict()[key]) for key, value in loaded.model.state_dict().items())
    bound = logits_bound(again.drafter, ids)
    assert excess(loaded.drafter(ids).logits, again.drafter(ids).logits, bound) <= 1


def test_a_new_version_removes_what_it_no_longer_has(api, hub, folder):
    publish_folder(api, REPO, folder, TAG, merge=True)
    (folder / "certificate.json").unlink()
    (folder / "README.md").write_text(CARD + "second\n")
    publish_folder(api, REPO, folder, "v2", merge=True)
    repo = hub.repos[REPO]
    assert published(repo) == files(folder)
    assert set(repo.tags) == {TAG, "v2"}
    with pytest.raises(UploadError, match="a tag never moves"):
        publish_folder(api, REPO, folder, TAG, merge=True)


def test_files_that_are_not_ours_are_never_removed(api, hub, folder):
    publish_folder(api, REPO, folder, TAG)
    repo = hub.repos[REPO]
    repo.commits[repo.refs["main"]]["thesis.pdf"] = b"years of work"
    (folder / "certificate.json").unlink()
    with pytest.raises(UploadError, match=r"thesis\.pdf"):
        publish_folder(api, REPO, folder, "v2", merge=True)


def test_a_branch_that_moved_meanwhile_is_not_overwritten(api, hub, folder, monkeypatch):
    real = HfApi.preupload_lfs_files

    def meanwhile(self, *args, **kwargs):
        repo = hub.repos[REPO]
        repo.refs["main"] = repo.add({**repo.commits[repo.refs["main"]], "README.md": b"someone else"})
        return real(self, *args, **kwargs)

    monkeypatch.setattr(HfApi, "preupload_lfs_files", meanwhile)
    with pytest.raises(UploadError, match="could not commit"):
        publish_folder(api, REPO, folder, TAG, merge=True)
    assert published(hub.repos[REPO]) == {"README.md": b"someone else"}


def test_a_secret_stays_here(api, hub, folder):
    (folder / "eval" / "report.json").write_text(json.dumps({"key": "hf_" + "a1B2" * 9}))
    with pytest.raises(SecretFound, match=r"eval/report\.json:1 \(key\)"):
        publish_folder(api, REPO, folder, TAG)
    assert hub.log == []


def test_a_card_that_does_not_validate_is_refused(api, hub, folder):
    (folder / "README.md").write_text("---\ntags: [1]\n---\n")
    with pytest.raises(UploadError, match="license is missing"):
        publish_folder(api, REPO, folder, TAG)
    assert published(hub.repos[REPO]) == {}


def test_a_wrong_token_is_said(hub, folder):
    with pytest.raises(UploadError, match="could not create"):
        publish_folder(HfApi(endpoint=hub.endpoint, token="hf_wrong"), REPO, folder, TAG)


@pytest.mark.parametrize("name", ["nameonly", "a/b/c", "../x/y", "org/..", "-a/b"])
def test_names_of_repositories(api, hub, folder, name):
    with pytest.raises(UploadError, match="expected org/name"):
        publish_folder(api, name, folder, TAG)
    assert hub.log == []


# --- faults -----------------------------------------------------------------------------------------------------------

CHANGED = ("README.md", "model.safetensors", "tail.safetensors", "drafters.json")


def start(api, folder: Path, monkeypatch) -> dict[str, bytes]:
    """An earlier version is public, and its files are returned; in the folder lies a new one, big files included."""
    monkeypatch.setattr(upload, "require_clean", lambda folder: None)  # half a second, and no request
    (folder / "README.md").write_text(CARD)
    publish_folder(api, REPO, folder, "v0", merge=True, public=True)
    old = files(folder)
    for name in CHANGED:
        (folder / name).write_bytes(old[name] + b" ")
    return old


def whole(hub, old: dict[str, bytes], folder: Path) -> None:
    """Every revision a user can name is all old or all new; the new tag is on all new."""
    repo, new = hub.repos[REPO], files(folder)
    assert published(repo) in (old, new)
    for tag, oid in repo.tags.items():
        tree = {name: data for name, data in repo.commits[oid].items() if name != ".gitattributes"}
        assert tree == (new if tag == TAG else old)


def run_with(api, hub, folder: Path, fault: str, first: int, last: float) -> bool:
    """Publish while requests first..last fail; True if it got through."""
    before = len(hub.log)
    hub.fault = lambda number, method, path: fault if first <= number - before < last else None
    try:
        publish_folder(api, REPO, folder, TAG, merge=True, public=True)
    except UploadError:
        return False
    finally:
        hub.fault = lambda number, method, path: None
    return True


@pytest.fixture(scope="module")
def length(original, tmp_path_factory) -> int:
    """Requests of one undisturbed publication of a second version."""
    folder = Path(shutil.copytree(original, tmp_path_factory.mktemp("length") / "package"))
    found, server = hub_server.serve()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        api = HfApi(endpoint=found.endpoint, token=hub_server.TOKEN)
        start(api, folder, patch)
        before = len(found.log)
        publish_folder(api, REPO, folder, TAG, merge=True, public=True)
    server.shutdown()
    server.server_close()
    return len(found.log) - before


KINDS = {"500": 1e9, "429": 1e9, "drop": 1e9, "lost": 1, "timeout": 1}  # lasting failures, and single ones


@pytest.mark.parametrize("kind", KINDS)
def test_no_fault_at_any_request_leaves_half_a_revision(api, hub, folder, kind, length, monkeypatch):
    old = start(api, folder, monkeypatch)
    old_head, old_tags, stored = hub.repos[REPO].refs["main"], dict(hub.repos[REPO].tags), dict(hub.objects)
    assert length >= 15  # five kinds at each of them, or every second: 67 faults and more
    survived = 0
    places = range(0, length, 2 if kind == "timeout" else 1)  # a timeout takes its time
    if kind == "timeout":
        wait_for_answers(0.25)
    for place in places:
        repo = hub.repos[REPO]
        repo.refs = {"main": old_head}
        repo.tags, repo.requests, repo.history = dict(old_tags), {}, [old_head]
        hub.objects = dict(stored)
        done = run_with(api, hub, folder, kind, place, place + KINDS[kind])
        whole(hub, old, folder)
        survived += done
        receipt = publish_folder(api, REPO, folder, TAG, merge=True, public=True)
        assert published(repo) == files(folder)
        assert repo.tags[TAG] == receipt.commit
        assert len(repo.history) == 2, "one commit on main, however often it was tried"
    assert survived < len(places), "the faults did nothing"
    print(f"{len(places)} faults of kind {kind}: {survived} overcome by the client itself, all others by the next call")


def test_the_fault_test_sees_a_publication_in_parts(api, hub, folder, monkeypatch):
    """The planted bug: file by file, straight to main, as a loop over upload_file would do it."""
    old = start(api, folder, monkeypatch)

    def in_parts(api, repository, folder, tag, merge, public):
        for name in CHANGED:
            options = {"path_or_fileobj": folder / name, "path_in_repo": name, "repo_id": repository}
            upload._try("upload", lambda options=options: api.upload_file(**options))

    monkeypatch.setitem(globals(), "publish_folder", in_parts)
    halves = 0
    for place in range(6):
        run_with(api, hub, folder, "500", place, 1e9)
        try:
            whole(hub, old, folder)
        except AssertionError:
            halves += 1
    assert halves
