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
    """Nothing to do."""
    return Finding(OK, check, text)


def warn(check: str, text: str, fix: str) -> Finding:
    """Works now, but something later will be slower, or missing."""
    return Finding(WARN, check, text, fix)


def option(text: str) -> str:
    """A fix that is a setting, as something to type."""
    return f'make ... ARGS="{text}"'


def fail(check: str, text: str, fix: str) -> Finding:
    """The run would stop here."""
    return Finding(FAIL, check, text, fix)
