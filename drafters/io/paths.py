"""Where things lie in a checkout, found from any working directory."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ZOO = REPOSITORY / "drafters" / "zoo" / "pycode"  # the embedded pair: target/, drafter/, foreign/
CONF = REPOSITORY / "conf"
