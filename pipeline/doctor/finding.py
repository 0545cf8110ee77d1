"""One line of ``make doctor``."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "FAIL"


@dataclass(frozen=True)
class Finding:
    """What was checked, how it stands (ok, warn, FAIL), and for the latter two the command that puts it right."""

    state: str
    check: str
    text: str
    fix: str = ""


def ok(check: str, text: str) -> Finding:
    """A finding that leaves nothing to do."""
    return Finding(OK, check, text)


def warn(check: str, text: str, fix: str) -> Finding:
    """A finding that leaves something slower or missing later, with the command that puts it right."""
    return Finding(WARN, check, text, fix)


def option(text: str) -> str:
    """A fix that is a setting, as something to type."""
    return f'make ... ARGS="{text}"'


def fail(check: str, text: str, fix: str) -> Finding:
    """A finding that would stop the run, with the command that puts it right."""
    return Finding(FAIL, check, text, fix)
