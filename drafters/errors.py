"""The base of all errors that a user can put right."""


class DraftersError(ValueError):
    """What, expected, got, and what to do about it: the message is for the person at the terminal."""
