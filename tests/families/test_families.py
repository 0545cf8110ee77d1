"""Every family that people draft with goes from doctor to export, or is refused by name."""

from pathlib import Path

import pytest

from drafters.engine.cache import cached_model
from tests.families.catalog import FAMILIES
from tests.families.walk import walk, wrong

ALL = [
    pytest.param(name, marks=[] if family.quick else pytest.mark.slow("45 families, some 5 s each"))
    for name, family in FAMILIES.items()
]


@pytest.mark.parametrize("name", ALL)
def test_every_step_goes_as_the_row_says(name: str, tmp_path: Path):
    assert wrong(FAMILIES[name], walk(FAMILIES[name], tmp_path / name)) == []


def test_a_window_that_is_not_kept_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The planted bug: a cache that takes a model's sliding window for none."""
    monkeypatch.setattr(cached_model, "attention_window", lambda model: (None, False))
    found = wrong(FAMILIES["mistral-v0.1"], walk(FAMILIES["mistral-v0.1"], tmp_path / "mistral"))
    assert len(found) == 1
    assert found[0].startswith("generate: FAIL")
