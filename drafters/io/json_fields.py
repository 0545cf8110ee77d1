"""One object of a JSON file from outside, read field by field: every value is checked before anyone gets it."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from drafters.package_error import PackageError


@dataclass(frozen=True)
class Fields:
    """An object of a file, and where in it that stands. Every method raises PackageError naming the field."""

    data: Mapping[str, Any]
    file: str
    fix: str
    path: str = ""  # of the object, "" for the whole file

    def keys(self, known: Collection[str]) -> None:
        """Refuse a missing or unknown key."""
        if missing := sorted(set(known) - set(self.data)):
            raise self.wrong(missing[0], "this key", "none")
        if unknown := sorted(set(self.data) - set(known)):
            raise self.wrong(unknown[0], f"only the keys {', '.join(sorted(known))}", "an unknown key")

    def text(self, name: str, pattern: re.Pattern[str]) -> str:
        """Text that matches as a whole."""
        value = self.data[name]
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.wrong(name, f"text that matches {pattern.pattern}", value)
        return value

    def one_of(self, name: str, values: Collection[str]) -> str:
        """The field's text, which must be one of `values`."""
        value = self.data[name]
        if not isinstance(value, str) or value not in values:
            raise self.wrong(name, f"one of {', '.join(values)}", value)
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        value = self.data[name]
        if not is_integer(value, low, high):
            raise self.wrong(name, f"an integer from {low} to {high:,}", value)
        return int(value)

    def number(self, name: str, low: float, high: float) -> float:
        """A number in [low, high]; neither NaN nor infinity lies in it."""
        value = self.data[name]
        if not is_number(value, low, high):
            raise self.wrong(name, f"a number from {low:g} to {high:g}", value)
        return float(value)

    def child(self, name: str) -> "Fields":
        """The object in a field."""
        return self._object(self.data[name], name)

    def children(self, name: str, least: int, most: int) -> list["Fields"]:
        """The objects of a list."""
        value = self.data[name]
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise self.wrong(name, f"a list of {least} to {most} objects", value)
        return [self._object(item, f"{name}[{index}]") for index, item in enumerate(value)]

    def null(self, name: str) -> bool:
        """Whether a field holds null."""
        return self.data[name] is None

    def wrong(self, name: str, expected: str, got: object) -> PackageError:
        """The error for one field."""
        return PackageError(self.file, f"{self.path}{name}", expected, got, self.fix)

    def _object(self, value: object, name: str) -> "Fields":
        if not isinstance(value, dict):
            raise self.wrong(name, "an object", value)
        return Fields(value, self.file, self.fix, f"{self.path}{name}.")


def is_integer(value: object, low: int, high: float) -> bool:
    """Whether a JSON value is a whole number in [low, high]; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value: object, low: float, high: float) -> bool:
    """Whether a JSON value is a number in [low, high]; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
