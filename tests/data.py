"""Models, tokenizers and texts of other people, which lie beside the clone and not in it: tests that read them are skipped without."""

from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
NEEDS = "needs ../shared/data/"


def needs(*names: str) -> pytest.MarkDecorator:
    """The mark of tests that read these files or folders below ``../shared/data``."""
    missing = [name for name in names if not (DATA / name).exists()]
    return pytest.mark.skipif(bool(missing), reason=f"{NEEDS}{' and '.join(missing)}")


def shared_path(name: str) -> Path:
    """The path of this file or folder below ``../shared/data``; the test that asks is skipped where there is none."""
    if not (DATA / name).exists():
        pytest.skip(f"{NEEDS}{name}")
    return DATA / name
