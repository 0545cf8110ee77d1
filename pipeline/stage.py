"""What a stage is: the contract between a stage module and the runner.

A stage is one module ``pipeline/stages/<name>.py`` (dashes become underscores) that ends with ``STAGE = Stage(...)``
and one YAML ``conf/stage/<name>.yaml``; nothing is registered anywhere. ``Stage.run`` writes files into
``context.out``, a directory that survives a crash of the same key, so a stage that finds its own finished shards
there skips them.

This module is the stages' plumbing and stays out of their content keys (see ``pipeline.keys``): nothing here may
decide what a stage writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def _nothing(cfg: DictConfig) -> dict[str, str]:
    return {}


def _possible(cfg: DictConfig) -> None:
    return None


def _unsaid(directory: Path) -> str:
    return ""


def _silent(directory: Path, inputs: dict[str, Path], console: Console) -> None:
    return None


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline: what it reads, what it writes, and what its output depends on."""

    name: str  # as on the command line, e.g. "train-disco"
    run: Callable[[Context], None]  # writes files into context.out
    inputs: Callable[[DictConfig], dict[str, str]] = (
        _nothing  # role -> name of the stage whose directory is read in that role
    )
    config: Callable[[DictConfig], dict[str, Any]] | None = (
        None  # the values the output depends on; None: cfg[<name>] whole
    )
    external: Callable[[DictConfig], dict[str, str]] = (
        _nothing  # label -> local path, or Hub "org/name@<40-hex revision>"
    )
    check: Callable[[DictConfig], None] = _possible  # raises ConfigError for impossible settings before anything runs
    measures: bool = False  # the output depends on device, dtype, threads and package versions
    show: Callable[[Path, dict[str, Path], Console], None] = (
        _silent  # (directory, role -> its inputs', console): print the result; called for the stage asked for, made or reused
    )
    brief: Callable[[Path], str] = _unsaid  # (directory) -> what was found in a few words, for runs that print little
    schema: type | None = None  # dataclass typing cfg[<name>]; None: the module's <Name>Config

    @property
    def field(self) -> str:
        """Name of the stage's part of the configuration: dashes are not allowed there."""
        return self.name.replace("-", "_")

    def key_config(self, cfg: DictConfig) -> dict[str, Any]:
        """The configuration values that belong to the content key, as plain containers."""
        if self.config is not None:
            return self.config(cfg)
        node = OmegaConf.select(cfg, self.field)
        return {} if node is None else OmegaConf.to_container(node, resolve=True, throw_on_missing=True)  # type: ignore[return-value]


class Bar(Protocol):
    """Handle of one progress bar."""

    def advance(self, n: float = 1) -> None: ...


@dataclass
class Context:
    """Everything a running stage may touch."""

    cfg: DictConfig
    inputs: dict[str, Path]  # role -> finished directory, its manifest already verified
    out: Path  # persistent partial directory; what a crashed run of the same key left is still there
    console: Console = field(default_factory=Console)
    home: Path | None = None  # where ``out`` will lie once it is complete
    screen: Console | None = None  # where progress shows, if not on ``console``

    @contextmanager
    def progress(self, description: str, total: float | None) -> Iterator[Bar]:
        """A progress bar on a terminal, nothing elsewhere; ``with context.progress("Counting", n) as bar:
        bar.advance(k)``."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        screen = self.screen or self.console
        with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
            yield _RichBar(progress, progress.add_task(description, total=total))


@dataclass
class _RichBar:
    progress: Progress
    task: Any

    def advance(self, n: float = 1) -> None:
        self.progress.advance(self.task, n)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary sibling of ``path`` to write to; flushed and renamed to ``path`` when the block ends without an
    error."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` is either absent (or its old self) or whole, whatever kills the process."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
