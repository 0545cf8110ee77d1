"""Prompts kept back, the best tree, kept prices, swapped rows."""

import dataclasses

import numpy as np
import pytest
import torch

from drafters.samplers.catalog import build
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import identity
from eval.costs.forwards import Costs, Timing
from eval.expectation.expect import Expectation
from eval.expectation.expected_rounds import Followed, expected_rounds
from eval.run.configurations import Contender, Drafter
from eval.run.records import SPECULATIVE, Configuration, Record
from eval.run.sampler_files import Preset
from eval.run.trials import Task
from eval.verdict.candidates import Entry
from pipeline.evaluate import cells
from pipeline.evaluate.few_rows import best_trees
from pipeline.evaluate.text_expectations import Common
from pipeline.evaluate.verdict_run import FEWEST, _disturbed, _seen, split

COSTS = Costs(
    {n: Timing(1.0 + 0.1 * n, 1, 1, 1) for n in range(1, 20)}, {"package": Timing(0.1, 0.1, 0.1, 3)}, 128,
    {"package": {3: Timing(0.2, 0.1, 0.3, 3)}},
)  # fmt: skip
DRAFTER = Drafter("package", None, identity(4))


def tasks(count):
    return [Task(number, f"p{number}", torch.tensor([1])) for number in range(count)]


@pytest.mark.parametrize(
    ("count", "wanted", "kept"), [(30, 6, [2, 5, 8, 11, 14, 17]), (30, 1, [2, 5, 8, 11]), (12, 24, [2, 5, 8, 11])]
)
def test_prompts_kept_back_are_in_no_other_part(count, wanted, kept):
    seen, unseen = split(tasks(count), wanted)
    assert [task.number for task in unseen] == kept
    assert sorted(task.number for task in seen + unseen) == list(range(count))
    assert _seen({1.0: Common({}, ("", ""), {task.id: 0 for task in seen}, 0)}, unseen) == []


def test_too_few_prompts_serve_both_and_that_is_said():
    seen, unseen = split(tasks(3 * FEWEST - 1), 24)
    assert seen == unseen
    (said,) = _seen({1.0: Common({}, ("", ""), {task.id: 0 for task in seen}, 0)}, unseen)
    assert "confirmed on the prompts that it was chosen on; give a suite of at least 12" in said


def test_none_are_kept_back_where_none_are_wanted():
    assert [len(part) for part in split(tasks(30), 0)] == [30, 0]


def row(name, a, stop="static", drafter="package", **options):
    """A contender, and its entry with a constant chance of acceptance per level."""
    sampler = build(name, identity(4), options)
    levels = len(getattr(sampler.shape, "levels", [0] * 4))
    survival = np.tile(a ** np.arange(levels + 1), (50, 1))
    found = Expectation([survival[:, 1]] * 4, [Followed(survival, np.ones(50, bool), 50)] * 4)
    key = Configuration(drafter, name, SPECULATIVE, stop, 1.0, 4, name)
    return Contender(key, None, sampler, DRAFTER, Static(levels)), Entry(
        DRAFTER, Preset(name, name, options), sampler, found
    )


def common(*rows):
    entries = {(str(item.configuration.drafter), str(item.configuration.preset)): entry for item, entry in rows}
    return Common(entries, ("unpruned", "standard"), {f"p{number}": number for number in range(4)}, 200)


def test_of_trees_the_one_with_the_best_prediction_stays_and_all_else_does():
    rows = [row("standard", 0.9), row("rrs", 0.6), row("kseq", 0.7), row("traversal", 0.65, siblings="without")]
    found = common(*rows[:3])  # nothing is known of the last one
    kept = best_trees([item for item, _ in rows], {1.0: found}, COSTS)
    assert [item.configuration.preset for item in kept] == ["standard", "kseq", "traversal"]
    again = dataclasses.replace(rows[2][0], configuration=dataclasses.replace(rows[2][0].configuration, stop="other"))
    kept = best_trees([*(item for item, _ in rows), again], {1.0: found}, COSTS)
    assert [item.configuration.stop for item in kept if item.configuration.preset == "kseq"] == ["static", "other"]
    assert best_trees([item for item, _ in rows], {}, COSTS) == [item for item, _ in rows]


def test_a_tree_of_another_shape_has_not_its_namesakes_expectation():
    item, entry = row("rrs", 0.6)
    found = common((item, entry))
    other = dataclasses.replace(item, sampler=build("rrs", identity(4), {"branching": [2]}))
    assert found.row(item).acceptance.value == pytest.approx(0.6)
    assert found.row(other).acceptance is None
    assert found.rounds(other) is None


def records(item, entry):
    rounds = expected_rounds(entry.expectation.followed, item.stop.max_length)
    return [
        Record(
            item.configuration,
            f"p{number}",
            0,
            1,
            50,
            0,
            0,
            0,
            round(float(rounds.target_forwards[number])),
            (),
            1.0,
            None,
        )
        for number in range(4)
    ]


def test_swapped_rows_are_told():
    """Temperature 0: what ran is known exactly."""
    rows = [row("standard", 1.0), row("block", 0.0)]
    found, contenders = common(*rows), [item for item, _ in rows]
    ran = [line for one in rows for line in records(*one)]
    assert found.disagreements(contenders, ran, certain=True) == []
    names = {
        contenders[0].configuration: contenders[1].configuration,
        contenders[1].configuration: contenders[0].configuration,
    }
    swapped = [dataclasses.replace(line, configuration=names[line.configuration]) for line in ran]
    said = found.disagreements(contenders, swapped, certain=True)
    assert len(said) == 2
    assert said[0].startswith("standard with the drafter package at T = 1: 4 of 4 prompts took other rounds")
    # Planted on the other side: the expectations are exchanged.
    exchanged = common((rows[0][0], rows[1][1]), (rows[1][0], rows[0][1]))
    assert len(exchanged.disagreements(contenders, ran, certain=True)) == 2


def test_prices_are_measured_once(tmp_path):
    measured = []

    def measure():
        measured.append(1)
        return COSTS

    assert cells.costs(tmp_path, measure) == cells.costs(tmp_path, measure) == COSTS
    assert measured == [1]


@pytest.mark.parametrize(("high", "told"), [(1.2, False), (3.0, True)])
def test_prices_of_a_disturbed_clock_are_told(high, told):
    """Quartiles of 1.75 and 5.94 ms once made a second token cost 2.5 times the first, and nothing said so."""
    timings = {n: Timing(1.1, 1.0, high, 20) for n in range(1, 9)}
    said = _disturbed(dataclasses.replace(COSTS, target=timings))
    assert bool(said) == told
    assert not told or "quartiles differ by a factor of 3.0" in said[0]
