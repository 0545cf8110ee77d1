"""The catalog and its settings name the same samplers, and wrong names and vocabularies are explained."""

import inspect
from pathlib import Path

import pytest
import torch
import yaml

from drafters.samplers.catalog import CATALOG, build, is_identity
from drafters.vocab.alignment import VocabMap, identity, restrict

SETTINGS = Path(__file__).parents[3] / "conf" / "sampler"
PRUNED = restrict(identity(8), torch.tensor([0, 3, 5]))


def test_one_settings_file_per_sampler():
    assert {path.stem for path in SETTINGS.glob("*.yaml")} == set(CATALOG)


@pytest.mark.parametrize("name", CATALOG)
def test_settings_are_the_builders_arguments(name):
    settings = yaml.safe_load((SETTINGS / f"{name}.yaml").read_text())
    assert settings.pop("name") == name
    assert list(settings) == list(inspect.signature(CATALOG[name]).parameters)[1:]


@pytest.mark.parametrize("name", ["standard", "exact_match", "tli"])
def test_names_agree(name):
    assert build(name, identity(8)).name == name


def test_standard_refuses_another_vocabulary():
    with pytest.raises(ValueError, match="use sampler='tli'"):
        build("standard", PRUNED)


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(ValueError, match=r"unknown sampler 'exactmatch'; known: standard.*did you mean 'exact_match'"):
        build("exactmatch", identity(8))
    with pytest.raises(ValueError, match="sampler 'tli' has no option temperature"):
        build("tli", identity(8), {"temperature": 1})


def test_identity_is_recognised_by_content():
    assert is_identity(identity(5))
    assert not is_identity(PRUNED)
    assert not is_identity(VocabMap(torch.tensor([1, 0]), torch.tensor([1, 0])))
    assert not is_identity(VocabMap(torch.tensor([0, 1]), torch.tensor([0, 1, -1])))
