"""Errors whose message is meant for the person at the terminal: printed whole, without a traceback."""


class PipelineError(Exception):
    """Something the user can put right; the message says what, what was expected, what was found and what to do."""


class ConfigError(PipelineError):
    """The configuration is impossible: an unknown key, value or choice, or a missing one."""


class MissingInput(PipelineError):
    """A stage's input has not been made; the message names the command that makes it."""
