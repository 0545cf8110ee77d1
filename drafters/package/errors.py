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
        shown = got if isinstance(got, str) else repr(got)
        # What a foreign file holds is attacker text: no control characters reach the terminal, no megabyte lines.
        shown = "".join(character if character.isprintable() else "?" for character in shown)
        if len(shown) > 200:
            shown = shown[:200] + "..."
        super().__init__(f"{file}: {field}: expected {expected}, got {shown}. {fix}")
