"""Warnings of transformers and of Python as lines of ours: each once, in one line, from whom it is."""

from __future__ import annotations

import logging
import re

from rich.console import Console
from transformers.utils import logging as transformers_logging

from pipeline.runner.stage import say

WARNINGS = "py.warnings"  # the logger of what `warnings.warn` says


class LibraryWarnings(logging.Handler):
    """A handler that prints each library's warning once, in one line."""

    def __init__(self, console: Console):
        super().__init__(logging.WARNING)
        self._console = console
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Say a record's text in one line, behind the library's name."""
        message = record.getMessage()
        if record.name == WARNINGS:  # "file.py:12: UserWarning: text\n  source line\n", the last not always there
            message = re.sub(r"\n  \S[^\n]*\n?\Z", "", message)
        text = " ".join(message.split())
        if record.name == WARNINGS:
            library, text = "Python", text.partition("Warning: ")[2] or text
        else:
            library = record.name.partition(".")[0]
        if text not in self._said:
            self._said.add(text)
            say(self._console, f"note: {library}: {text}", whole=True)


def show_library_warnings(console: Console) -> None:
    """Let this console show what libraries warn of, in place of their own lines on stderr."""
    handler = LibraryWarnings(console)
    transformers_logging.disable_default_handler()
    logging.captureWarnings(True)
    for name in ("transformers", WARNINGS):
        logger = logging.getLogger(name)
        for old in [item for item in logger.handlers if isinstance(item, LibraryWarnings)]:
            logger.removeHandler(old)
        logger.addHandler(handler)
