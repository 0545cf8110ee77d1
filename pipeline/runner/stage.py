"""What a stage is: the contract between a stage module and the runner.

A stage is one module ``pipeline/stages/<name>.py`` (dashes become underscores) that ends with ``STAGE = Stage(...)``
and has its settings in a dataclass ``<Name>Config``; nothing is registered anywhere. ``Stage.run`` writes files into
``context.out``, a directory that survives a crash of the same key, so a stage that finds its own finished shards
there skips them.

This module is the stages' plumbing and stays out of their content keys (see ``pipeline.runner.content_key``): nothing here may
decide what a stage writes.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from eval.run.progress import Lines, ticking


def always(cfg: DictConfig) -> bool:
    """Return True, whatever the configuration: for a stage that decodes in every run."""
    return True


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline: what it reads, what it writes, and what its output depends on."""

    name: str  # as on the command line, e.g. "train-disco"
    run: Callable[[Context], None]  # writes files into context.out
    # Role -> name of the stage whose directory is read in that role
    inputs: Callable[[DictConfig], dict[str, str]] = lambda cfg: {}
    # The values the output depends on; None: cfg[<name>] whole
    config: Callable[[DictConfig], Mapping[str, object]] | None = None
    # Label -> local path, or Hub "org/name@<40-hex revision>"
    external: Callable[[DictConfig], dict[str, str]] = lambda cfg: {}
    check: Callable[[DictConfig], None] = lambda cfg: (
        None
    )  # raises ConfigError for impossible settings before anything runs
    # It runs the pair's models token by token here: threads are chosen by that
    decodes: Callable[[DictConfig], bool] = lambda cfg: False
    measures: bool = False  # the output depends on device, dtype, threads and package versions
    # (directory, role -> its inputs', console): print the result; called for the stage asked for, made or reused
    show: Callable[[Path, dict[str, Path], Console], None] = lambda directory, inputs, console: None
    # Role -> path or Hub name that `show` names besides, found among its inputs; no part of the output
    named: Callable[[DictConfig], dict[str, Path]] = lambda cfg: {}
    brief: Callable[[Path], str] = lambda directory: (
        ""
    )  # (directory) -> what was found in a few words, for runs that print little
    schema: type | None = None  # dataclass typing cfg[<name>]; None: the module's <Name>Config

    @property
    def field(self) -> str:
        """Name of the stage's part of the configuration: dashes are not allowed there."""
        return self.name.replace("-", "_")

    def key_config(self, cfg: DictConfig) -> Mapping[str, object]:
        """The configuration values that belong to the content key, as plain containers."""
        if self.config is not None:
            return self.config(cfg)
        node = OmegaConf.select(cfg, self.field)
        return {} if node is None else OmegaConf.to_container(node, resolve=True, throw_on_missing=True)  # type: ignore[return-value]


def pair_external(cfg: DictConfig, *roles: str) -> dict[str, str]:
    """Role -> folder or pinned Hub id of the pair's models, for `Stage.external`; both where no role is given."""
    found = {}
    for role in roles or ("target", "drafter"):
        revision = cfg.pair.get(f"{role}_revision")
        found[role] = f"{cfg.pair[role]}@{revision}" if revision else str(cfg.pair[role])
    return found


class Advance(Protocol):
    """Counts `n` units of work more; `kept`: an earlier run had done them, so that they say nothing about the speed."""

    def __call__(self, n: float = 1, *, kept: bool = False) -> None: ...


def unseen(n: float = 1, *, kept: bool = False) -> None:
    """The `Advance` of work that nobody watches."""


class Bar(Protocol):
    """Handle of one progress bar."""

    @property
    def advance(self) -> Advance:
        """The function that moves the bar on by a number of units."""
        ...


class Workspace(Protocol):
    """Where the parts of a stage write and report: the `Context` without configuration and inputs."""

    out: Path
    console: Console

    def progress(
        self, description: str, total: float | None, unit: str = "", most: float = math.inf
    ) -> contextlib.AbstractContextManager[Bar]:
        """A bar or lines that tell how far the work is; see `Context.progress`."""


@dataclass
class Context:
    """Everything a running stage may touch."""

    cfg: DictConfig
    inputs: dict[str, Path]  # role -> finished directory, its manifest already verified
    out: Path  # persistent partial directory; what a crashed run of the same key left is still there
    console: Console = field(default_factory=Console)
    home: Path | None = None  # where ``out`` will lie once it is complete
    screen: Console | None = None  # where progress shows, if not on ``console``
    clock: Callable[[], float] = time.monotonic
    _open: list[Lines] = field(default_factory=list, repr=False)  # progress at work, the innermost last

    @contextmanager
    def progress(self, description: str, total: float | None, unit: str = "", most: float = math.inf) -> Iterator[Bar]:
        """A progress bar on a terminal, elsewhere a line every 15 s and none if it ends before; ``with
        context.progress("Counting", n) as bar: bar.advance(k)``.

        ``total`` None: not known. ``unit`` stands behind the numbers of the lines; "bytes" are shown as MB. ``most``: seconds
        after which the work ends, done or not. What is found finished is counted by ``bar.advance(k, kept=True)``, so that
        the time left rests on this run's work alone.
        """
        if self._shown.is_terminal:
            with _terminal_bar(self._shown, description, total) as bar:
                yield bar
            return
        with self._lines(Lines(description, total, self._say, self.clock, unit, most=most)) as lines:
            yield lines

    @contextmanager
    def heartbeat(self, what: str) -> Iterator[None]:
        """Say every 15 s, where there is no terminal, that ``what`` is at work, unless a `progress` inside says it."""
        if self._shown.is_terminal:
            yield
            return
        begin = len(self._open)
        lines = Lines(what, None, self._say, self.clock, quiet=lambda: len(self._open) > begin, last=False)
        with ticking(lines):
            yield

    @contextmanager
    def _lines(self, lines: Lines) -> Iterator[Lines]:
        self._open.append(lines)
        try:
            with ticking(lines):
                yield lines
        finally:
            self._open.remove(lines)

    @property
    def _shown(self) -> Console:
        return self.screen or self.console

    def _say(self, text: str) -> None:
        say(self._shown, text, whole=True)


@contextmanager
def _terminal_bar(console: Console, description: str, total: float | None) -> Iterator[Bar]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _RichBar(progress, progress.add_task(description, total=total))


@dataclass
class _RichBar:
    progress: Progress
    task: Any

    def advance(self, n: float = 1, *, kept: bool = False) -> None:
        self.progress.advance(self.task, n)


def say(console: Console, text: str, whole: bool = False) -> None:
    """Print a sentence: no markup, no colours. ``whole``: one that no terminal's width breaks, as it may be copied: a path."""
    console.print(text, highlight=False, markup=False, soft_wrap=whole or None)  # flushes, so that a pipe shows it
