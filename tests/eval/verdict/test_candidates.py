"""What could be recommended: each law once, lengths by prediction, trees as they were built."""

import dataclasses

import pytest
import torch

from drafters.engine.limits import Limits
from drafters.probs import Sampling
from drafters.samplers.catalog import build
from drafters.vocab.alignment import identity, restrict
from eval.costs.forwards import Costs, Timing
from eval.expectation.common_text import common_text
from eval.expectation.expect import expectations
from eval.lossless.toys.table_models import Table, TablePair
from eval.run.configurations import Drafter
from eval.run.sampler_files import Preset
from eval.verdict.candidates import Entry, candidates, contender, shortlist
from eval.verdict.prediction import Overheads
from eval.verdict.verdict import use

NAMES = ("standard", "tli", "union", "slrs", "race", "exact_match", "block")
TREE = Preset("race_tree", "race_tree", {"branching": "tunstall", "nodes": 6, "depth": None, "rank_law": None})
RRS = Preset("rrs_batch", "rrs", {"branching": [4]})


def flat(c: float) -> Costs:
    price = Timing(c, c, c, 1)
    return Costs(
        {n: Timing(1.0, 1, 1, 1) for n in range(1, 20)}, dict.fromkeys(("unpruned", "package", "other"), price), 1
    )


def entries(temperature: float, names=NAMES, drafters=("unpruned", "package", "other")) -> list[Entry]:
    """The package's drafter knows 5 of 8 tokens, the others all."""
    target, noise = Table.random(8, 0), Table.random(8, 1, scale=0.7)
    drafter, kept = Table(target.logits + noise.logits), torch.tensor([0, 2, 3, 5, 6])
    full = TablePair(target, drafter, identity(8))
    pruned = TablePair(target, Table(drafter.logits[:, kept].contiguous()), restrict(identity(8), kept))
    pairs = {"unpruned": full, "package": pruned, "other": full}
    found = []
    texts = common_text(full, [torch.tensor([1])] * 4, list(range(4)), Limits(20, Sampling(temperature)), 0, 80)
    for name in drafters:
        one = Drafter(name, pairs[name], pairs[name].vocab)
        presets = [*(Preset(label, label) for label in names), TREE, RRS]
        if name == "package":
            presets = [preset for preset in presets if preset.name != "standard"]
        samplers = {preset.label: build(preset.name, one.vocab, preset.options) for preset in presets}
        made = expectations(texts, [one], {name: samplers}, Sampling(temperature), None, 8, 0)
        found += [Entry(one, preset, samplers[preset.label], made[name, preset.label]) for preset in presets]
    return found


def named(found):
    return {(item.drafter.name, item.preset.label) for item in found}


def test_one_law_is_one_candidate_under_the_forms_plain_rejection():
    found = candidates(entries(1.0)[::-1], 1.0, flat(0.1), Overheads(), 8)
    assert {name for form, name in named(found) if form == "unpruned"} == {
        "standard",
        "race",
        "exact_match",
        "block",
        "race_tree",
        "rrs_batch",
    }
    assert {name for form, name in named(found) if form == "package"} == {
        "tli",
        "race",
        "exact_match",
        "block",
        "race_tree",
        "rrs_batch",
    }
    assert {form for form, _ in named(found)} == {"unpruned", "package"}  # no package holds another drafter
    assert [item.predicted.ratio for item in found] == sorted((item.predicted.ratio for item in found), reverse=True)


def test_at_temperature_0_all_chains_are_one():
    found = candidates(entries(0.0), 0.0, flat(0.1), Overheads(), 8)
    assert {name for form, name in named(found) if form == "unpruned"} == {"standard", "race_tree", "rrs_batch"}
    assert len([item for item in found if item.preset.label == "standard"]) == 8


def test_the_same_law_by_another_computation_is_none():
    (one,) = [entry for entry in entries(1.0, ("tli",), ("package",)) if entry.preset.label == "tli"]
    exact = dataclasses.replace(one, preset=Preset("rdk_exact", "rdk_exact"))
    assert named(candidates([one, exact], 1.0, flat(0.1), Overheads(), 3)) == {("package", "tli")}


def test_dear_drafts_are_few_and_cheap_ones_many():
    best = {
        c: candidates(entries(1.0, ("tli",), ("package",))[:1], 1.0, flat(c), Overheads(), 8)[0]
        for c in (0.01, 0.4, 3.0)
    }
    assert best[0.01].length > best[0.4].length >= best[3.0].length == 1
    assert best[3.0].predicted.ratio < 1 < best[0.01].predicted.ratio


def test_a_shortlist_differs_in_more_than_lengths():
    ranked = candidates(entries(1.0), 1.0, flat(0.05), Overheads(), 8)
    chosen = shortlist(ranked, 3)
    assert len(named(chosen)) == 3
    assert chosen[0] is ranked[0]
    assert len(shortlist(ranked, 1000)) == len(named(ranked))


@pytest.mark.parametrize("label", ["race_tree", "rrs_batch", "tli"])
def test_what_is_recommended_is_the_sampler_that_ran(label):
    """Planted: race_tree's shape is made to measure, and its preset does not say how."""
    (entry,) = [entry for entry in entries(1.0, ("tli",), ("package",)) if entry.preset.label == label]
    measured = build("race_tree", entry.drafter.vocab, {"nodes": 6, "rank_law": [0.3, 0.3, 0.2, 0.1]}).shape
    if label == "race_tree":
        assert measured != entry.sampler.shape
        entry = dataclasses.replace(
            entry, sampler=dataclasses.replace(entry.sampler, shape=measured), expectation=entry.expectation
        )
    levels = getattr(entry.sampler.shape, "levels", None)
    item = candidates([entry], 1.0, flat(0.1), Overheads(), 4)[0] if label != "race_tree" else None
    if item is None:  # expectations of the measured shape
        texts = common_text(entry.drafter.pair, [torch.tensor([1])] * 2, [0, 1], Limits(20), 0, 40)
        made = expectations(texts, [entry.drafter], {"package": {label: entry.sampler}}, Sampling(1.0), None, 4, 0)
        entry = dataclasses.replace(entry, expectation=made["package", label])
        item = candidates([entry], 1.0, flat(0.1), Overheads(), 4)[0]
    chosen = use(item)
    again = build(chosen.sampler, entry.drafter.vocab, chosen.options)
    assert getattr(again.shape, "levels", None) == levels
    assert contender(item).stop.length == chosen.length == item.length
