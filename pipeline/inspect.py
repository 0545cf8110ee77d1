"""``python -m pipeline inspect DIR``: what a package or model folder holds, and why it is or is not accepted.

Exit status: 0 accepted, 1 refused, 2 not found or a wrong call. A Hub id needs a commit: ``org/name <40 hex>``.
"""

from __future__ import annotations

import sys

USAGE = 'usage: make inspect ARGS=DIR or ARGS=FILE.gguf, or make inspect ARGS="org/name <commit of 40 hex digits>"'
MARKS = {True: "ok     ", False: "REFUSED", None: "-      "}


def main(arguments: list[str]) -> int:
    """Print the checks of one folder; returns the exit status. Raises PackageError where there is none."""
    if not 1 <= len(arguments) <= 2 or arguments[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        return 2
    from drafters.models.gguf.cache import resolve_model  # here: these imports take seconds
    from drafters.package.inspection import inspect_folder
    from drafters.package.integrity import PATTERNS

    source = resolve_model(arguments[0], arguments[1] if len(arguments) == 2 else None, PATTERNS, USAGE)
    lines = inspect_folder(source)
    for line in lines:
        print(f"{MARKS[line.passed]} {line.check:<15} {line.found}")
    accepted = all(line.passed is not False for line in lines)
    print("accepted" if accepted else "not accepted: nothing of it would be used")
    return 0 if accepted else 1
