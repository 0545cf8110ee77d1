"""The catalog and conf/stop name the same policies with the same options."""

from pathlib import Path

import pytest
import yaml

from drafters.stop.catalog import CATALOG, TRAINED, build
from drafters.stop.policy import StopError

FILES = {
    path.stem: yaml.safe_load(path.read_text()) for path in (Path(__file__).parents[3] / "conf" / "stop").glob("*.yaml")
}
NUMBERS = {
    "disco_threshold.1": 0.5, "disco_max_length.1": 10, "specdecpp_threshold.1": 0.4, "c.1": 0.2, "rate.1": 1.5, "first.1": 0.6,
}  # fmt: skip


def test_every_policy_has_a_file_of_its_name():
    assert set(FILES) == set(CATALOG)
    assert {values["name"] for values in FILES.values()} == set(CATALOG)


@pytest.mark.parametrize("label", sorted(FILES))
def test_the_files_build(label, make_trained):
    values = dict(FILES[label])
    policy = build(values.pop("name"), values, trained=make_trained(**NUMBERS))
    assert policy.max_length >= 1


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_tuned_is_read_from_the_package(name, make_trained):
    policy = build(name, trained=make_trained(**NUMBERS))
    found = {"disco": ("threshold", 0.5), "specdecpp": ("threshold", 0.4), "cost_aware": ("rate", 1.5)}[name]
    assert getattr(policy, found[0]) == found[1]
    given = build(name, {found[0]: 0.9}, trained=make_trained(**NUMBERS))
    assert getattr(given, found[0]) == 0.9


@pytest.mark.parametrize("name", TRAINED)
def test_a_package_without_a_classifier_is_told_what_to_do(name):
    with pytest.raises(StopError, match=f"stop={name}: .*train_disco.enabled=true"):
        build(name)


def test_names_options_and_values_are_checked():
    with pytest.raises(StopError, match=r"unknown stop policy 'heuristics'; did you mean 'heuristic'\?"):
        build("heuristics")
    with pytest.raises(StopError, match=r"stop.lenght: static has no such option; it has: length"):
        build("static", {"lenght": 3})
    for name, options in (("static", {"length": -1}), ("svip", {"scale": 0}), ("confidence", {"max_length": 0})):
        with pytest.raises(StopError, match=r"stop\.\w+ must be"):
            build(name, options)
