"""What every export gets and gives back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from drafters.errors import DraftersError
from drafters.package.reader import Package


class ExportError(DraftersError):
    """A format, or a form of it, that its reader cannot load today; the message says why and what it can load."""


@dataclass(frozen=True)
class ExportRequest:
    """One export. ``full`` opens the drafter as it was before pruning: only forms that need it call it."""

    package: Package
    folder: Path  # of the package, for its licence
    full: Callable[[], PreTrainedModel]
    out: Path  # an existing, empty directory

    @property
    def target(self) -> str:
        """The target as the package names it: a Hub id, or the last part of a local folder."""
        return str(self.package.description["target"]["id"])

    @property
    def lookahead(self) -> int:
        """Tokens drafted per round that the package was prepared for."""
        return int(self.package.description["generation"]["lookahead"])


LENGTH, AND_ONE = "LENGTH", "LENGTH+1"  # in a serve command: drafted tokens per round, a JSON value; and one more


@dataclass(frozen=True)
class Exported:
    """What was written, how to serve it, and what its reader cannot do with it."""

    serve: str  # DIR stands for the export's folder, LENGTH for the draft length, see `with_length`
    limits: tuple[str, ...]
    checked: str  # what the load check opened and saw


@dataclass(frozen=True)
class Format:
    """One reader. ``forms`` maps a form to its writer, the default first; ``refused`` maps others to the reason."""

    name: str
    forms: dict[str, Callable[[ExportRequest], Exported]]
    refused: dict[str, str]


def with_length(serve: str, length: int) -> str:
    """A serve command for a draft length."""
    return serve.replace(AND_ONE, str(length + 1)).replace(f'"{LENGTH}"', str(length))
