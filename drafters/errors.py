"""The base of all errors that a user can put right."""


class DraftersError(Exception):
    """What, expected, got, and what to do about it: the message is for the person at the terminal.

    A value that only a mistake in a program can bring about raises ValueError, which is none of these.
    """
