"""Runs stages: finds what exists, makes what is missing, and lets nothing incomplete be mistaken for a result.

An output is made in ``runs/<stage>/.<key>.partial`` and becomes ``runs/<stage>/<key>`` by one rename, after every
file has been flushed and hashed and the manifest has been written. Killed at any instant, a run leaves at most the
partial directory, from which the next run of the same key goes on.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from drafters.io import manifest as manifests
from drafters.io.paths import REPOSITORY
from pipeline.errors import MissingInput, PipelineError
from pipeline.runner import seal
from pipeline.runner.content_key import KeyParts, content_key, key_parts
from pipeline.runner.cpu_threads import Threads
from pipeline.runner.discovery import STAGES, load_stage
from pipeline.runner.lock import lock
from pipeline.runner.source_closure import PACKAGES
from pipeline.runner.stage import Context, Stage, say


@dataclass(frozen=True)
class Step:
    """One stage with its place: what it needs, its content key and its directory."""

    stage: Stage
    key: str
    parts: KeyParts  # what the key was made of
    inputs: dict[str, Step]  # role -> the step whose directory is read in that role
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
    package: str = STAGES  # where stage modules live
    root: Path = REPOSITORY  # where first-party source lies
    first_party: tuple[str, ...] = PACKAGES
    # Called with the stages to run, before the first of them
    before: Callable[[DictConfig, list[Stage], Console], None] | None = None
    done: set[Path] = field(default_factory=set)  # made or checked by this runner
    threads: Threads = field(init=False)

    def __post_init__(self) -> None:
        self.threads = Threads(self.cfg, self.console)

    def run(self, name: str, only: bool = False) -> Path:
        """Make the output of stage ``name`` and, unless ``only``, of every stage before it; return its directory.

        Raises MissingInput when ``only`` and an input does not exist, ConfigError when the settings are impossible.
        """
        step = self.plan(name)
        if only:
            self._require_inputs(step)
        order = self._order(step)
        self._announce(order, name)
        if order and self.before is not None:
            self.before(self.cfg, [load_stage(other, self.package)[0] for other in order], self.console)
        self._make(step)
        inputs = {role: needed.directory for role, needed in step.inputs.items()}
        step.stage.show(step.directory, inputs | step.stage.named(self.cfg), self.console)
        return step.directory

    def _announce(self, order: list[str], name: str) -> None:
        """Say what will run before it runs; nothing where that is the one stage asked for."""
        if set(order) - {name}:
            self._say(f"to make: {' -> '.join(order)}")

    def _order(self, step: Step) -> list[str]:
        """Names of the stages that will run, each after what it reads."""
        if self._is_whole(step):
            return []
        before = [name for needed in step.inputs.values() for name in self._order(needed)]
        return list(dict.fromkeys([*before, step.stage.name]))

    def plan(self, name: str, above: tuple[str, ...] = ()) -> Step:
        """Keys and directories of ``name`` and of all it reads, before anything is run."""
        if name in above:
            raise PipelineError(f"stages need each other in a circle: {' -> '.join([*above, name])}")
        stage, module = load_stage(name, self.package)
        stage.check(self.cfg)
        inputs = {role: self.plan(other, (*above, name)) for role, other in sorted(stage.inputs(self.cfg).items())}
        keys = {role: step.key for role, step in inputs.items()}
        parts = key_parts(stage, module, self.cfg, keys, self.threads.of, self.root, self.first_party)
        key = content_key(parts)
        return Step(stage, key, parts, inputs, Path(self.cfg.runs_dir) / name / key)

    def _require_inputs(self, step: Step) -> None:
        for role, needed in step.inputs.items():
            name = needed.stage.name
            try:
                manifests.read_manifest(needed.directory)
            except manifests.ManifestError as error:
                raise MissingInput(
                    f"{step.stage.name} needs the output of stage {name} as its input '{role}': {error}\n"
                    f"make it with the same options and `stage={name}` (make {name}), or leave out only=true"
                ) from error

    def _make(self, step: Step) -> None:
        if step.directory in self.done:
            return
        self.done.add(step.directory)
        whole = self._is_whole(step)
        for needed in step.inputs.values():
            if not whole or needed.directory.exists():  # what has been made already does not need its inputs back
                self._make(needed)
        if whole:
            self._report(step, "reused")
            return
        seal.make_folder(step.directory.parent)
        with lock(step.directory.with_name(f".{step.key}.lock"), self.console, step.stage.name):
            if self._is_whole(step):  # another process made it while this one waited
                self._report(step, "reused")
                return
            self._set_aside(step)
            started = time.monotonic()
            self._execute(step)
            self._report(step, f"ran {time.monotonic() - started:.1f} s")

    def _execute(self, step: Step) -> None:
        partial = step.partial
        if not seal.is_sealed(partial):
            partial.mkdir(exist_ok=True)
            seal.sweep(partial)
            inputs = {role: needed.directory for role, needed in step.inputs.items()}
            self.threads.use(step.stage)
            with self._stage_console() as console:
                context = Context(self.cfg, inputs, partial, console, step.directory, self.console)
                try:
                    with context.heartbeat(step.stage.name):
                        step.stage.run(context)
                        seal.sweep(partial)
                        seal.seal(partial, step.stage.name, step.key, step.parts)
                finally:
                    with suppress(OSError):  # not empty: what there is of it is gone on from
                        partial.rmdir()
        seal.publish(partial, step.directory)

    def _is_whole(self, step: Step) -> bool:
        try:
            return manifests.read_manifest(step.directory).key == step.key
        except manifests.ManifestError:
            return False

    def _set_aside(self, step: Step) -> None:
        """Move a damaged output out of the way, so that it is neither used nor silently destroyed."""
        if not step.directory.exists():
            return
        try:
            reason = f"key {manifests.read_manifest(step.directory).key}, expected {step.key}"
        except manifests.ManifestError as error:
            reason = str(error)
        aside = step.directory.with_name(f".{step.key}.broken-{time.time_ns()}")
        os.rename(step.directory, aside)
        self._say(f"{step.stage.name}: {reason}\n{step.stage.name}: moved it to {aside}, making it again")

    @contextmanager
    def _stage_console(self) -> Iterator[Console]:
        """Where a stage talks: here, or in a brief run aside, of which only the warnings are shown."""
        if not self.cfg.get("brief"):
            yield self.console
            return
        aside = Console(file=io.StringIO(), width=10_000)
        try:
            yield aside
        finally:
            for line in aside.file.getvalue().splitlines():  # type: ignore[attr-defined]
                if line.startswith("warning"):
                    self._say(line)

    def _report(self, step: Step, what: str) -> None:
        brief = bool(self.cfg.get("brief"))
        self._say(
            f"{step.stage.name:<12} {what:<12} {step.stage.brief(step.directory) if brief else step.directory}".rstrip()
        )

    def _say(self, text: str) -> None:
        say(self.console, text, whole=True)
