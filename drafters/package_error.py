"""The one error raised for a package or model folder that must not be trusted."""

from drafters.errors import DraftersError


class PackageError(DraftersError):
    """A file from outside breaks a rule of the package format.

    Attributes:
        file: name relative to the folder that was opened, never an absolute path of the author's machine.
        field: the key, tensor or property that is wrong.
        expected: the rule, in words.
        got: what the file holds.
        fix: what the reader can do about it.
    """

    def __init__(self, file: str, field: str, expected: str, got: object, fix: str) -> None:
        self.file, self.field, self.expected, self.got, self.fix = file, field, expected, got, fix
        shown = _harmless(got if isinstance(got, str) else repr(got))
        super().__init__(f"{_harmless(file)}: {_harmless(field)}: expected {_harmless(expected)}, got {shown}. {fix}")


def _harmless(text: str) -> str:
    """What a foreign file holds, its names included, is attacker text: no control characters, no megabyte lines."""
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= 200 else text[:200] + "..."
