"""Models named on the Hub, each pinned to one commit before any content key is made of it, and GGUF files made ready."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from drafters.io.hub import commit_of, on_hub
from drafters.io.manifest import file_sha256
from drafters.io.wheel_file import parse
from drafters.models.gguf.cache import gguf_file, is_gguf, steps
from pipeline.runner.discovery import load_stage


def pin(cfg: DictConfig, console: Console) -> list[str]:
    """Resolve the Hub names of the pair and of further drafters, in place; returns the settings that pin them.

    Of a GGUF file it is said what has to be done once, and one of the package index is fetched and pinned by its hash.
    Every name is asked for once per command, so that all its stages use, and record, the same commit; none where no stage
    to run reads models. Raises PackageError for a name that neither the Hub nor its local cache knows.
    """
    pinned: list[str] = []
    if not any(label in ("target", "drafter") for label in _read_by(cfg.stage, cfg)):
        return pinned
    for role in ("target", "drafter"):
        key = f"{role}_revision"
        where = str(cfg.pair[role])
        if is_gguf(where):
            cfg.pair[role] = _ready(where, f"pair.{role}", console)
            continue
        commit = _resolved(where, cfg.pair.get(key), f"pair.{role}")
        if commit is not None:
            cfg.pair[key] = commit
            pinned.append(f"pair.{key}={commit}")
            _say(console, f"pair.{role}: {where} resolved to {commit}, pin it with pair.{key}={commit}")
    more = OmegaConf.select(cfg, "eval.more_drafters", default={})
    for name, value in more.items():
        where, _, revision = str(value).partition("@")
        commit = _resolved(where, revision or None, f"eval.more_drafters.{name}")
        if commit is not None:
            more[name] = f"{where}@{commit}"
            pinned.append(f"++eval.more_drafters.{name}={where}@{commit}")
            _say(console, f"eval.more_drafters.{name}: resolved to {more[name]}, which pins it")
    return pinned


def _read_by(name: str, cfg: DictConfig) -> Iterator[str]:
    """Labels of what a stage, and every stage before it, reads from outside."""
    stage, _ = load_stage(name)
    stage.check(cfg)
    yield from stage.external(cfg)
    for other in stage.inputs(cfg).values():
        yield from _read_by(other, cfg)


def _resolved(where: str, revision: str | None, setting: str) -> str | None:
    """The commit of a Hub name, None for a folder and for what is pinned already."""
    if not on_hub(where):
        return None
    commit = commit_of(where, revision, f"Give a local model folder with {setting}=DIR.")
    return None if commit == revision else commit


def _ready(where: str, setting: str, console: Console) -> str:
    """The GGUF file as it was named, one of a wheel with the hash of its content."""
    for step in steps(where):
        _say(console, f"{setting}: {step}")
    file, wanted = gguf_file(where, f"Check the path {setting}."), parse(where)
    if wanted is None or wanted.sha256 is not None:
        return where
    pinned = f"{wanted.id}#sha256={file_sha256(file)}"
    _say(console, f"{setting}: pin this content with '{setting}=\"{pinned}\"'")
    return pinned


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
