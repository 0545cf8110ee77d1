"""Few rows: samplers that would take exactly the rounds of another one are named and left out, and nothing else is."""

import dataclasses

from drafters.stop.policies.heuristic import Heuristic
from eval.run.configurations import Drafter
from pipeline.evaluate.few_rows import at_best_lengths, few
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


def test_each_row_has_the_length_that_is_predicted_to_be_fastest_for_it():
    """With t(n) = 1 + n / 10 and d = 1 / 10: (1 - a^(k+1)) / (1 - a) / (1.1 + 0.2 k) is largest at k = 4 of 4, and at k = 1."""
    rows = [row("standard", 0.9), row("block", 0.3), row("rrs", 0.9)]
    policy = dataclasses.replace(
        rows[0][0], stop=Heuristic(), configuration=dataclasses.replace(rows[0][0].configuration, stop="h")
    )
    found = at_best_lengths([*(item for item, _ in rows), policy], {1.0: common(*rows)}, COSTS)
    assert [(item.configuration.stop, item.stop.max_length) for item in found[:2]] == [("static 4", 4), ("static 1", 1)]
    assert found[2] is rows[2][0]  # a tree states its own depth
    assert found[3] is policy  # a policy, its own length
