"""The one command line of what is measured and proved: `python -m eval <command> [key=value ...]`.

Every command is the `main` of a module, which takes its options as a dataclass and returns the exit status: 0 done, 1 what was checked
does not hold, 2 something the user can put right.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import get_type_hints

from drafters.errors import DraftersError
from eval.bench.catalog import BENCHES
from eval.command_line import OptionError, describe_options, nearest, read_options, required

COMMANDS: Mapping[str, str] = {
    "lossless": "eval.lossless.prove",
    "identity": "eval.lossless.real_models.greedy_identity",
    "likelihood": "eval.lossless.real_models.likelihood",
    "race_identity": "eval.lossless.real_models.race_identity",
    "report": "eval.report.write_page",
    "compare": "eval.report.compare",
    "dsi": "eval.report.dsi",
    "drill": "eval.distributed.drill",
    "bench": "eval.bench.run_all",
    **{f"bench {name}": module for name, module in BENCHES.items()},
}
HELP = ("-h", "--help", "help")


def main(words: Sequence[str]) -> int:
    """Run a command, or print the help that is asked for; returns the exit status."""
    if not words or words[0] in HELP:
        print(overview())
        return 0
    try:
        name, rest = split_command(words)
        command = import_module(COMMANDS[name]).main
        kind = get_type_hints(command)["options"]
        if any(word in HELP for word in rest):
            print("\n".join([_usage(name, kind), "", _docstring(COMMANDS[name]), "", *describe_options(kind)]))
            return 0
        return int(command(read_options(kind, rest)))
    except OptionError as error:
        print(f"error: {error}\n  the options: python -m eval {name} --help", file=sys.stderr)
    except DraftersError as error:
        print(f"error: {error}", file=sys.stderr)
    return 2


def split_command(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The command that the first words name, and the other words. Raises DraftersError where there is no such command."""
    grouped = any(name.startswith(f"{words[0]} ") for name in COMMANDS)
    count = 2 if grouped and len(words) > 1 and "=" not in words[1] and words[1] not in HELP else 1
    name = " ".join(words[:count])
    if name in COMMANDS:
        return name, words[count:]
    raise DraftersError(
        f"{name}: expected one of {', '.join(COMMANDS)}{nearest(name, COMMANDS)}\n  what they do: python -m eval --help"
    )


def overview() -> str:
    """What every command does: the first sentences of their modules."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {_docstring(module).splitlines()[0]}" for name, module in COMMANDS.items()]
    head = "usage: python -m eval <command> [key=value ...], python -m eval <command> --help"
    return "\n".join([head, "", *lines])


def _usage(name: str, kind: type) -> str:
    return " ".join(["usage: python -m eval", name, *(f"<{field}>" for field in required(kind)), "[key=value ...]"])


def _docstring(module: str) -> str:
    """A module's docstring, without importing it: that takes seconds."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
