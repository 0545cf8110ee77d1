"""Where things lie in a checkout, found from any working directory."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ZOO = REPOSITORY / "drafters" / "zoo" / "pycode"  # the embedded pair: target/, drafter/, foreign/
CONF = REPOSITORY / "conf"


def cache_folder() -> Path:
    """Return where converted and completed models are kept: $DRAFTERS_CACHE, else ~/.cache/drafters."""
    return Path(os.environ.get("DRAFTERS_CACHE") or "~/.cache/drafters").expanduser()
