"""Every family that people draft with goes from doctor to export, or is refused by name."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from drafters.engine.cache import cached_model
from tests.families.catalog import FAMILIES
from tests.families.walk import walk, wrong

SLOW = pytest.mark.slow("40 families, some 5 s each")
# An instruct target with its base; a padded head and a setting to unset; a composite whose drafter lacks a row; notes of
# makers; a head narrower than the hidden state, no tokenizer.json; two vocabularies; a family that transformers lacks.
QUICK = {"llama-3.x", "qwen2.5", "gemma-3", "smollm2", "opt", "phi-4", "internlm2.5"}
ALL = [pytest.param(name, marks=[] if name in QUICK else [SLOW]) for name in FAMILIES]


@pytest.mark.parametrize("name", ALL)
def test_every_step_goes_as_the_row_says(name: str, tmp_path: Path):
    family = FAMILIES[name]
    if family.lacks and find_spec(family.lacks) is not None:
        pytest.skip(f"{family.lacks} is there")
    assert wrong(family, walk(family, tmp_path / name)) == []


def test_a_window_that_is_not_kept_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The planted bug: a cache that takes a model's sliding window for none."""
    monkeypatch.setattr(cached_model, "attention_window", lambda model: (None, False))
    found = wrong(FAMILIES["mistral-v0.1"], walk(FAMILIES["mistral-v0.1"], tmp_path / "mistral"))
    assert len(found) == 1
    assert found[0].startswith("generate: FAIL")
