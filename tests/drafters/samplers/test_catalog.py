"""The catalog and its settings name the same samplers, and wrong names and vocabularies are explained."""

from pathlib import Path

import pytest
import torch
import yaml

from drafters.samplers.catalog import CATALOG, SamplerSpec, applies, build, check_options
from drafters.samplers.lossy_settings import LossyError
from drafters.samplers.needs import is_identity
from drafters.vocab.alignment import VocabMap, identity, restrict

SETTINGS = Path(__file__).parents[3] / "conf" / "sampler"
PRUNED = restrict(identity(8), torch.tensor([0, 3, 5]))


FILES = {path.stem: yaml.safe_load(path.read_text()) for path in SETTINGS.glob("*.yaml")}


def test_one_settings_file_per_sampler_and_every_further_file_is_a_variant_of_one():
    assert set(CATALOG) <= set(FILES)
    assert {settings["name"] for settings in FILES.values()} == set(CATALOG)
    assert not {label for label, settings in FILES.items() if label in CATALOG and settings["name"] != label}


@pytest.mark.parametrize("label", FILES)
def test_the_builder_takes_the_options_of_every_file(label):
    options = dict(FILES[label])
    check_options(options.pop("name"), options)


def test_strategies_compare_drafts_of_equal_size():
    def nodes(label: str) -> int:
        options = dict(FILES[label])
        shape = build(options.pop("name"), identity(8), options).shape
        return sum(map(sum, shape.levels))

    assert {nodes(f"rrs{end}") for end in ("", "_sequence", "_batch")} == {15}
    assert {nodes(f"race_{end}") for end in ("tree", "fixed", "sequence", "batch")} == {15}
    assert nodes("rrs_wor_batch") == nodes("rrs_wor") == 15


def test_a_tunstall_tree_follows_the_law_of_ranks_and_the_depth_it_is_given():
    flat = build("race_tree", identity(8), {"nodes": 3, "rank_law": [0.3, 0.29, 0.28]}).shape
    steep = build("race_tree", identity(8), {"nodes": 3, "rank_law": [0.9, 0.05]}).shape
    assert (len(flat.levels), len(steep.levels)) == (1, 3)
    assert len(build("race_tree", identity(8), {"nodes": 3, "depth": 2, "rank_law": [0.9, 0.05]}).shape.levels) == 2
    assert build("race_tree", identity(8), {"rank_law": None}).shape == build("race_tree", identity(8)).shape


@pytest.mark.parametrize("name", CATALOG)
def test_settings_are_the_builders_arguments(name):
    settings = yaml.safe_load((SETTINGS / f"{name}.yaml").read_text())
    assert settings.pop("name") == name
    assert list(settings) == list(CATALOG[name].options)


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


@pytest.mark.parametrize(("knob", "value"), [("threshold", 0.5), ("typical_acceptance", True), ("lenience", 0.8)])
def test_an_option_that_relaxes_acceptance_is_refused_as_lossy(knob, value):
    with pytest.raises(LossyError, match=rf"sampler 'rrs': {knob}={value} relaxes acceptance.*remove {knob}"):
        build("rrs", identity(8), {knob: value})


def test_a_builders_own_fault_is_no_reason_to_leave_a_sampler_out(monkeypatch):
    """A row must not vanish because its builder has a bug: what applies is looked up in its needs, and nothing is caught."""

    def faulty(context):
        raise ValueError("a bug")

    monkeypatch.setitem(CATALOG, "block", SamplerSpec(faulty))
    assert applies("block", PRUNED)
    with pytest.raises(ValueError, match="a bug"):
        build("block", PRUNED)


def test_what_a_pair_lacks_is_said():
    alone = VocabMap(torch.tensor([-1, -1]), torch.tensor([-1, -1]))
    assert not applies("tli", alone)
    assert not applies("rdk", PRUNED)
    assert not applies("tail", PRUNED)
    assert applies("tail", PRUNED, tail=True)
    assert applies("slrs", PRUNED)  # every kept token is a target token
    assert not applies("slem", PRUNED)
    with pytest.raises(ValueError, match="run stage=affinity"):
        build("rdk", PRUNED)
