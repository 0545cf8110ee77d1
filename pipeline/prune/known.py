"""What can be known of a vocabulary before any model is opened."""

from __future__ import annotations

import json
from pathlib import Path

from drafters.io.paths import REPOSITORY


def known_vocabulary(where: str | None) -> int | None:
    """A model's vocabulary size by the config.json of its local folder; None where that is not at hand."""
    if not where:
        return None
    for folder in (
        Path(where).expanduser(),
        REPOSITORY / where,
    ):  # the embedded models are found from any working directory
        try:
            values = json.loads((folder / "config.json").read_text())
            size = (values.get("text_config") or values).get("vocab_size")
        except (OSError, ValueError, AttributeError):  # what is wrong with it is said when it is opened
            continue
        return size if type(size) is int and size > 0 else None
    return None
