"""Few rows: samplers that would take exactly the rounds of another one are named and left out, and nothing else is."""

import dataclasses

from eval.run.configurations import Drafter
from pipeline.evaluate.few_rows import few
from tests.pipeline.evaluate.test_verdict_run import COSTS, common, row


def names(items):
    return [item.configuration.preset for item in items]


def test_samplers_with_the_rounds_of_another_one_are_left_out_and_named():
    rows = [row("standard", 0.9), row("exact_match", 0.4), row("block", 0.9), row("race", 0.9)]
    kept, said = few([item for item, _ in rows], {1.0: common(*rows)}, COSTS)
    assert names(kept) == ["standard", "exact_match"]
    assert said == ["T = 1: block, race with the drafter package would take exactly the rounds of standard"]


def test_a_tree_is_no_twin_of_a_chain_and_other_drafters_and_lengths_are_their_own():
    rows = [row("standard", 0.7), row("rrs", 0.7), row("block", 0.7, drafter="tail"), row("race", 0.7000001)]
    kept, said = few([item for item, _ in rows], {1.0: common(*rows)}, COSTS)
    assert names(kept) == ["standard", "rrs", "block", "race"]
    assert said == []


def test_drafters_that_no_package_holds_are_left_out():
    (mine, entry) = row("standard", 0.9)
    other = dataclasses.replace(
        mine,
        configuration=dataclasses.replace(mine.configuration, drafter="foreign"),
        drafter=Drafter("foreign", None, mine.drafter.vocab),
    )
    kept, _ = few([mine, other], {1.0: common((mine, entry))}, COSTS)
    assert kept == [mine]


def test_what_nothing_is_known_of_stays():
    rows = [row("standard", 0.9), row("block", 0.9)]
    kept, said = few([item for item, _ in rows], {1.0: common(rows[0])}, COSTS)
    assert names(kept) == ["standard", "block"]
    assert said == []
