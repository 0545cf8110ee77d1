"""Errors whose message is meant for the person at the terminal: printed whole, without a traceback."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from drafters.errors import DraftersError

_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL", re.IGNORECASE)
_SECRET_TEXT = re.compile(r"\b(hf_[A-Za-z0-9]{16,}|wandb_v\d_\w{16,}|sk-[\w-]{16,})|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")


class PipelineError(DraftersError):
    """Something the user can put right; the message says what, what was expected, what was found and what to do."""


class ConfigError(PipelineError):
    """The configuration is impossible: an unknown key, value or choice, or a missing one."""


class MissingInput(PipelineError):
    """A stage's input has not been made; the message names the command that makes it."""


def redact(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """``text`` with every secret of the environment, access token and URL password replaced by ``***``."""
    for name, value in environment.items():
        if _SECRET_NAME.search(name) and len(value) >= 8:  # shorter ones are switches such as "true"
            text = text.replace(value, "***")
    return _SECRET_TEXT.sub("***", text)
