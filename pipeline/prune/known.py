"""What can be known of the drafter's vocabulary before any model is opened."""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from drafters.io.paths import REPOSITORY


def known_vocabulary(cfg: DictConfig) -> int | None:
    """The drafter's vocabulary size by the config.json of its local folder; None where that is not at hand."""
    where = OmegaConf.select(cfg, "pair.drafter", throw_on_missing=False)
    if not isinstance(where, str) or not where:
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
