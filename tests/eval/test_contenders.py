"""Which sampler runs with which drafter."""

import pytest
import torch

from drafters.samplers.catalog import CATALOG
from drafters.stop.static import Static
from drafters.vocab.alignment import VocabMap, identity, restrict
from eval.contenders import Drafter, applicable, contenders, pairings, reference
from eval.records import PACKAGE, UNPRUNED

FULL = identity(10)
PRUNED = restrict(FULL, torch.tensor([0, 2, 3]))
FOREIGN = VocabMap(torch.tensor([4, -1, 2]), torch.tensor([-1, -1, 2, -1, 0, -1, -1, -1, -1, -1]))


def names(*maps: VocabMap, samplers=None) -> list[tuple[str, str]]:
    drafters = [Drafter(name, None, vocab) for name, vocab in zip((UNPRUNED, PACKAGE, "other"), maps, strict=False)]
    return [(drafter.name, sampler.name) for drafter, sampler in pairings(drafters, samplers)]


def test_every_sampler_of_the_catalog_runs_once_and_references_beside():
    found = names(FULL, PRUNED, FOREIGN)
    assert {"standard", "exact_match", "tli"} <= set(CATALOG)
    assert (UNPRUNED, "standard") in found
    assert {(PACKAGE, "exact_match"), (PACKAGE, "tli"), ("other", "tli")} <= set(found)
    assert (PACKAGE, "standard") not in found
    assert len(set(found)) == len(found)
    able = {name for name in CATALOG if any(applicable(name, Drafter("any", None, vocab)) for vocab in (FULL, PRUNED))}
    assert {sampler for drafter, sampler in found if drafter != "other"} == able
    assert len(found) == len(able) + 1  # each once, and the other drafter's reference


def test_an_unpruned_package_runs_all_of_them():
    found = names(FULL, FULL)
    assert found[0] == (UNPRUNED, "standard")
    able = {name for name in CATALOG if applicable(name, Drafter("any", None, FULL))}
    assert {sampler for drafter, sampler in found if drafter == PACKAGE} == able


def test_a_foreign_pair_is_compared_with_tli():
    found = names(FOREIGN, restrict(FOREIGN, torch.tensor([0, 2])))
    assert found[0] == (UNPRUNED, "tli")
    assert "standard" not in {sampler for _, sampler in found}
    assert reference(Drafter("any", None, FULL)).name == "standard"
    assert reference(Drafter("any", None, PRUNED)).name == reference(Drafter("any", None, FOREIGN)).name == "tli"


def test_choosing_samplers_keeps_the_references():
    assert names(FULL, PRUNED, samplers=["exact_match"]) == [(UNPRUNED, "standard"), (PACKAGE, "exact_match")]
    assert names(FULL, PRUNED, samplers=[]) == [(UNPRUNED, "standard")]


def test_an_unknown_sampler_is_not_taken_for_one_that_does_not_apply():
    assert applicable("standard", Drafter("any", None, PRUNED)) is None
    with pytest.raises(ValueError, match="unknown sampler"):
        applicable("standrad", Drafter("any", None, FULL))


def test_every_temperature_has_its_plain_decoding():
    drafters = [Drafter(UNPRUNED, None, FULL), Drafter(PACKAGE, None, PRUNED)]
    found = [item.configuration for item in contenders(drafters, Static(3), "static", [0.0, 1.0], ["tli"])]
    described = [(item.temperature, item.drafter, item.sampler, item.executor, item.kept) for item in found]
    assert described == [
        (temperature, *rest)
        for temperature in (0.0, 1.0)
        for rest in (
            (None, None, "autoregressive", None),
            (UNPRUNED, "standard", "speculative", 10),
            (PACKAGE, "tli", "speculative", 3),
        )
    ]
