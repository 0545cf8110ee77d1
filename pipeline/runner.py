"""Runs stages: finds what exists, makes what is missing, and lets nothing incomplete be mistaken for a result.

An output is made in ``runs/<stage>/.<key>.partial`` and becomes ``runs/<stage>/<key>`` by one rename, after every file has been
flushed and hashed and the manifest has been written. Killed at any instant, a run leaves at most the partial directory, from which
the next run of the same key goes on.
"""

from __future__ import annotations

import importlib
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from drafters.package import manifest as manifests
from pipeline.closure import PACKAGES, ROOT
from pipeline.errors import MissingInput, PipelineError
from pipeline.keys import content_key, key_parts
from pipeline.lock import lock
from pipeline.stage import Context, Stage


@dataclass(frozen=True)
class Step:
    """One stage with its place: what it needs, its content key and its directory."""

    stage: Stage
    key: str
    parts: dict[str, Any]  # what the key was made of
    inputs: dict[str, Step]
    directory: Path

    @property
    def partial(self) -> Path:
        """Where the output grows until it is complete."""
        return self.directory.with_name(f".{self.key}.partial")


@dataclass
class Runner:
    """Executes the stages of one configuration."""

    cfg: DictConfig
    console: Console = field(default_factory=Console)
    package: str = "pipeline.stages"  # where stage modules live
    root: Path = ROOT
    first_party: tuple[str, ...] = PACKAGES

    def run(self, name: str, only: bool = False) -> Path:
        """Make the output of stage ``name`` and, unless ``only``, of every stage before it; return its directory.

        Raises MissingInput when ``only`` and an input does not exist.
        """
        step = self.plan(name)
        if only:
            self._require(step)
        return self._make(step, set())

    def plan(self, name: str, above: tuple[str, ...] = ()) -> Step:
        """Keys and directories of ``name`` and of all it reads, before anything is run."""
        if name in above:
            raise PipelineError(f"stages need each other in a circle: {' -> '.join([*above, name])}")
        stage, module = load_stage(name, self.package)
        inputs = {role: self.plan(other, (*above, name)) for role, other in sorted(stage.inputs(self.cfg).items())}
        keys = {role: step.key for role, step in inputs.items()}
        parts = key_parts(stage, module, self.cfg, keys, self.root, self.first_party)
        key = content_key(parts)
        return Step(stage, key, parts, inputs, Path(self.cfg.runs_dir) / name / key)

    def _require(self, step: Step) -> None:
        for role, needed in step.inputs.items():
            try:
                manifests.read_manifest(needed.directory)
            except manifests.ManifestError as error:
                raise MissingInput(
                    f"{step.stage.name} needs the output of stage {needed.stage.name} as its input {role!r}: {error}\n"
                    f"make it with `python -m pipeline stage={needed.stage.name}` and the same options, or leave out only=true"
                ) from error

    def _make(self, step: Step, done: set[Path]) -> Path:
        for needed in step.inputs.values():
            self._make(needed, done)
        if step.directory in done:
            return step.directory
        done.add(step.directory)
        if self._reusable(step):
            self._report(step, "reused")
            return step.directory
        step.directory.parent.mkdir(parents=True, exist_ok=True)
        with lock(step.directory.with_name(f".{step.key}.lock"), self.console, step.stage.name):
            if self._reusable(step):  # another process made it while this one waited
                self._report(step, "reused")
                return step.directory
            started = time.monotonic()
            self._execute(step)
            self._report(step, f"ran {time.monotonic() - started:.1f} s")
        return step.directory

    def _execute(self, step: Step) -> None:
        partial = step.partial
        if not _complete(partial):
            partial.mkdir(exist_ok=True)
            _sweep(partial)
            inputs = {role: needed.directory for role, needed in step.inputs.items()}
            step.stage.run(Context(self.cfg, inputs, partial, self.console))
            _sweep(partial)
            manifests.write_manifest(
                partial,
                kind=step.stage.name,
                key=step.key,
                config=step.parts["config"],
                inputs=step.parts["inputs"],
                extra={name: step.parts[name] for name in ("source", "external", "machine") if name in step.parts},
            )
        publish(partial, step.directory)

    def _reusable(self, step: Step) -> bool:
        """Whether the directory is whole. One that is not is moved aside, so that it is neither used nor silently destroyed."""
        if not step.directory.exists():
            return False
        try:
            manifests.read_manifest(step.directory)
        except manifests.ManifestError as error:
            aside = step.directory.with_name(f".{step.key}.broken-{time.time_ns()}")
            os.rename(step.directory, aside)
            self.console.print(
                f"{step.stage.name}: {error}\n  moved to {aside}; making it again", style="yellow", highlight=False
            )
            return False
        return True

    def _report(self, step: Step, what: str) -> None:
        self.console.print(f"{step.stage.name:<12} {what:<12} {step.directory}", highlight=False, soft_wrap=True)


def load_stage(name: str, package: str = "pipeline.stages") -> tuple[Stage, str]:
    """The stage called ``name`` and the name of its module. Raises PipelineError when its module defines no STAGE of that name."""
    module = f"{package}.{name.replace('-', '_')}"
    stage = getattr(importlib.import_module(module), "STAGE", None)
    if not isinstance(stage, Stage) or stage.name != name:
        raise PipelineError(f"{module}: expected STAGE = Stage(name={name!r}, ...), got {stage!r}")
    return stage, module


def publish(partial: Path, directory: Path) -> None:
    """Give a complete directory its final name, durably, and check that it arrived whole."""
    os.rename(partial, directory)
    manifests.fsync_directory(directory.parent)
    manifests.read_manifest(
        directory, verify=False
    )  # its bytes were hashed a moment ago; the rename cannot have changed them


def _complete(partial: Path) -> bool:
    """Whether a killed run got as far as the manifest; a manifest that does not fit is removed, the files stay for resuming."""
    try:
        manifests.read_manifest(partial)
    except manifests.ManifestError:
        (partial / manifests.NAME).unlink(missing_ok=True)
        return False
    return True


def _sweep(partial: Path) -> None:
    """Remove temporary files of processes that are gone; the lock makes sure that there is no other."""
    for path in partial.rglob(".*.tmp-*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
