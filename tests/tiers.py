"""Which cases of a test `make test` runs, and which only `make test-all`."""

from collections.abc import Hashable, Iterable
from typing import Any

import pytest


def slow_but(kept: Hashable, cases: Iterable[Any], why: str) -> list[Any]:
    """The cases of a parametrised test, all marked slow but ``kept``; a tuple is of several parameters. ``why``: what takes how long.

    Raises ValueError if ``kept`` is none of them.
    """
    found = list(cases)
    if kept not in found:
        raise ValueError(f"expected one of {found} to be kept, got {kept!r}")
    parts = [case if isinstance(case, tuple) else (case,) for case in found]
    mark = pytest.mark.slow(why)
    return [
        case if case == kept else pytest.param(*values, marks=mark) for case, values in zip(found, parts, strict=True)
    ]
