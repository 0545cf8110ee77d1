"""What every export gets and gives back."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drafters.errors import DraftersError
from drafters.io.hub import Source
from drafters.models.pair import context_length
from drafters.package.reader import Package


class ExportError(DraftersError):
    """A format, or a form of it, that its reader cannot load today; the message says why and what it can load."""


@dataclass(frozen=True)
class ExportRequest:
    """One export. ``drafter`` gives the checked folder of the drafter before pruning: only forms that need it call it."""

    package: Package  # in fp32: every number of a checkpoint in half precision is one of fp32
    folder: Path  # of the package
    drafter: Callable[[], Source]
    out: Path  # an existing, empty directory

    @property
    def lookahead(self) -> int:
        """Tokens drafted per round that the package was prepared for."""
        return int(self.package.description["generation"]["lookahead"])

    @property
    def context(self) -> int | None:
        """Positions the drafter was built for; None: its config sets no limit."""
        return context_length(self.package.model.config)

    def short_of(self, beyond: str) -> tuple[str, ...]:
        """Return the limit that names the drafter's context and what its reader does ``beyond`` it; none without a limit."""
        return (
            ()
            if self.context is None
            else (f"The drafter was built for {self.context:,} positions; a target of more: {beyond}.",)
        )


# In a serve command: the export's folder, the target, drafted tokens per round, one more.
DIR, TARGET, LENGTH, AND_ONE = "DIR", "TARGET", "LENGTH", "LENGTH+1"


@dataclass(frozen=True)
class Exported:
    """What was written, how to serve it, and what its reader cannot do with it."""

    serve: str  # with DIR, TARGET and LENGTH, see `filled`
    limits: tuple[str, ...]
    checked: str  # what the load check opened and saw


@dataclass(frozen=True)
class Format:
    """One reader. ``forms`` maps a form to its writer, the default first; ``refused`` maps others to the reason."""

    name: str
    forms: dict[str, Callable[[ExportRequest], Exported]]
    refused: dict[str, str]


def filled(serve: str, length: int, target: str = TARGET, directory: str = DIR) -> str:
    """Return a serve command for a draft length, with the names of the target and of the export's folder.

    A length in quotes is a JSON value and loses them.
    """
    values = {f'"{LENGTH}"': str(length), AND_ONE: str(length + 1), LENGTH: str(length), TARGET: target, DIR: directory}
    return re.sub("|".join(map(re.escape, values)), lambda found: values[found[0]], serve)
