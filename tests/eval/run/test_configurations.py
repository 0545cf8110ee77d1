"""Which sampler runs with which drafter."""

import pytest
import torch

from drafters.engine.decode import Speculative
from drafters.samplers.catalog import CATALOG, Group, members
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import VocabMap, identity, restrict
from eval.run.configurations import Drafter, applicable, contenders, pairings, reference
from eval.run.records import PACKAGE, SPECULATIVE, UNPRUNED
from eval.run.sampler_files import Preset, parse, read

FULL = identity(10)
PRUNED = restrict(FULL, torch.tensor([0, 2, 3]))
FOREIGN = VocabMap(torch.tensor([4, -1, 2]), torch.tensor([-1, -1, 2, -1, 0, -1, -1, -1, -1, -1]))
PLAIN = [Preset(name, name) for name in CATALOG]


def drafter(vocab: VocabMap, name: str = "any") -> Drafter:
    return Drafter(name, None, vocab)


def names(*maps: VocabMap, presets=PLAIN, compare=False) -> list[tuple[str, str]]:
    drafters = [drafter(vocab, name) for name, vocab in zip((UNPRUNED, PACKAGE, "other"), maps, strict=False)]
    return [(drafter.name, preset.label) for drafter, preset in pairings(drafters, presets, compare)]


def able(*maps: VocabMap) -> set[str]:
    return {preset.label for preset in PLAIN if any(applicable(preset, drafter(vocab)) for vocab in maps)}


def test_every_sampler_of_the_catalog_runs_once_and_references_beside():
    found = names(FULL, PRUNED, FOREIGN)
    assert {"standard", "exact_match", "tli"} <= set(CATALOG)
    assert (UNPRUNED, "standard") in found
    assert {(PACKAGE, "exact_match"), (PACKAGE, "tli"), ("other", "tli")} <= set(found)
    assert (PACKAGE, "standard") not in found
    assert len(set(found)) == len(found)
    assert {sampler for name, sampler in found if name != "other"} == able(FULL, PRUNED)
    assert len(found) == len(able(FULL, PRUNED)) + 1  # each once, and the other drafter's reference


def test_comparing_adds_samplers_to_the_other_drafters_and_takes_none_away():
    few, many = names(FULL, PRUNED, FOREIGN), names(FULL, PRUNED, FOREIGN, compare=True)
    assert set(few) < set(many)
    assert len(set(many)) == len(many)
    assert {label for name, label in many if name == "other"} == able(FOREIGN) & set(members(Group.HETEROGENEOUS))
    assert {(UNPRUNED, "block"), (UNPRUNED, "traversal"), (UNPRUNED, "race_tree")} <= set(many)


def test_an_unpruned_package_runs_all_of_them():
    found = names(FULL, FULL)
    assert found[0] == (UNPRUNED, "standard")
    assert {sampler for name, sampler in found if name == PACKAGE} == able(FULL)


def test_a_foreign_pair_is_compared_with_tli():
    found = names(FOREIGN, restrict(FOREIGN, torch.tensor([0, 2])))
    assert found[0] == (UNPRUNED, "tli")
    assert "standard" not in {sampler for _, sampler in found}
    assert reference(drafter(FULL)).name == "standard"
    assert reference(drafter(PRUNED)).name == reference(drafter(FOREIGN)).name == "tli"


def test_choosing_samplers_keeps_the_references():
    chosen = [Preset("exact_match", "exact_match")]
    assert names(FULL, PRUNED, presets=chosen) == [(UNPRUNED, "standard"), (PACKAGE, "exact_match")]
    assert names(FULL, PRUNED, presets=[]) == [(UNPRUNED, "standard")]


def test_every_temperature_has_its_plain_decoding_and_every_policy_and_executor_its_row():
    drafters = [drafter(FULL, UNPRUNED), drafter(PRUNED, PACKAGE)]
    chosen = [Preset("tli", "tli")]
    found = [item.configuration for item in contenders(drafters, {"static": Static(3)}, [0.0, 1.0], chosen)]
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
    stops = {"static": Static(3), "short": Static(1)}
    executors = {SPECULATIVE: Speculative(), "other": Speculative()}
    rows = [item.configuration for item in contenders(drafters, stops, [1.0], chosen, executors=executors)]
    assert len(set(rows)) == len(rows) == 1 + 2 * 2 * 2
    assert {(row.stop, row.executor) for row in rows[1:]} == {(stop, name) for stop in stops for name in executors}


def test_settings_files_are_read_in_the_catalogs_order_and_variants_follow_their_own():
    labels = [preset.label for preset in read()]
    assert set(CATALOG) <= set(labels)
    assert labels.index("rrs") < labels.index("rrs_batch") < labels.index("rrs_sequence") < labels.index("rrs_wor")
    assert [preset.label for preset in read(chosen=["rrs_batch", "tli"])] == ["tli", "rrs_batch"]


@pytest.mark.parametrize(
    ("settings", "chosen", "message"),
    [
        ({"a": {"name": "standrad"}}, None, "unknown sampler 'standrad'"),
        ({"a": {"branching": [1]}}, None, "sampler a: expected `name:`"),
        ({"a": {"name": "rrs", "wide": 3}}, None, "sampler 'rrs' has no option wide"),
        ({"a": {"name": "rrs"}}, ["b"], "b: no such sampler; choose from a"),
    ],
)
def test_wrong_settings_are_explained(settings, chosen, message):
    with pytest.raises(ValueError, match=message):
        parse(settings, chosen)


def test_options_reach_the_sampler_and_its_row_bears_the_files_name():
    chosen = parse({"wide": {"name": "rrs", "branching": [4, 2]}, "rrs": {"name": "rrs", "branching": "tree"}})
    rows = contenders([drafter(FULL, UNPRUNED), drafter(FULL, PACKAGE)], {"static": Static(3)}, [1.0], chosen)
    shapes = {
        row.configuration.preset: row.sampler.shape.branching for row in rows if row.configuration.sampler == "rrs"
    }
    assert shapes == {"rrs": (3, 2, 1), "wide": (4, 2)}


def test_a_race_tree_takes_the_law_measured_with_its_drafter_at_its_temperature():
    laws = {(UNPRUNED, 0.0): [0.9], (PACKAGE, 0.0): [0.8], (UNPRUNED, 1.0): [0.3, 0.3, 0.3], (PACKAGE, 1.0): None}
    open_law = {"name": "race_tree", "branching": "tunstall", "nodes": 3, "depth": None, "rank_law": None}
    chosen = parse({"race_tree": open_law, "fixed": open_law | {"rank_law": [0.2, 0.19, 0.18]}})
    rows = contenders(
        [drafter(FULL, UNPRUNED), drafter(FULL, PACKAGE)], {"static": Static(2)}, [0.0, 1.0], chosen, compare=True,
        rank_law=lambda drafter, temperature: laws[drafter.name, temperature],
    )  # fmt: skip
    shape = {
        (
            row.configuration.drafter,
            row.configuration.preset,
            row.configuration.temperature,
        ): row.sampler.shape.branching
        for row in rows
        if row.configuration.sampler == "race_tree"
    }
    assert shape[PACKAGE, "race_tree", 0.0] == ((1,), (1,))  # no deeper than the policy's longest round
    assert shape[UNPRUNED, "race_tree", 1.0] == ((3,),)
    assert shape[PACKAGE, "fixed", 0.0] == ((3,),)
    assert shape[PACKAGE, "race_tree", 1.0] != shape[UNPRUNED, "race_tree", 1.0]


def test_a_tree_of_stated_shape_is_drafted_whole_and_no_drafts_stay_none():
    chosen = parse({"deep": {"name": "rrs", "branching": [1] * 7}, "block": {"name": "block"}})
    drafters = [drafter(FULL, UNPRUNED), drafter(FULL, PACKAGE)]

    def longest(length: int) -> dict[str, int]:
        rows = contenders(drafters, {"static": Static(length)}, [1.0], chosen)
        return {row.configuration.preset: row.stop.max_length for row in rows if row.configuration.drafter == PACKAGE}

    assert longest(3) == {"deep": 7, "block": 3}
    assert longest(9) == {"deep": 9, "block": 9}
    assert longest(0) == {"deep": 0, "block": 0}
