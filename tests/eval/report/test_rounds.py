"""Acceptance by position and the oracle, against numbers worked out by hand."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.costs.forwards import Costs, Timing
from eval.report.rounds import by_round, oracle, positions
from eval.run.records import PACKAGE, SPECULATIVE, Configuration, Record, histogram

KEY = Configuration(PACKAGE, "tli", SPECULATIVE, "static", 1.0, 25, "tli")
COSTS = Costs(
    target={n: Timing(1.0 + 0.1 * (n - 1), 1.0, 1.0, 5) for n in range(1, 12)},
    drafters={PACKAGE: Timing(0.2, 0.2, 0.2, 5)},
    context=8,
)


def made(*rounds: tuple[int, int, int], prompt: str = "a", repeat: int = 0) -> Record:
    drafted, verified, accepted = (sum(column) for column in zip(*rounds, strict=True))
    tokens = accepted + len(rounds)
    return Record(
        KEY, prompt, repeat, 3, tokens, drafted, verified, accepted, len(rounds), histogram(rounds), 1.0, None
    )


# Two accepted and one rejected; all accepted; the first rejected.
THREE = ((5, 3, 2), (5, 5, 5), (5, 1, 0))


def test_positions_by_hand():
    found = positions([made(*THREE)])
    assert [(item.position, item.accepted, item.verified) for item in found] == [
        (1, 2, 3), (2, 2, 2), (3, 1, 2), (4, 1, 1), (5, 1, 1),
    ]  # fmt: skip
    assert [item.rate for item in found] == [2 / 3, 1.0, 0.5, 1.0, 1.0]
    assert found[0].low is found[0].high is None  # one prompt has no interval


def test_intervals_over_prompts_hold_the_rate():
    first, *_ = positions([made(*THREE, prompt="a"), made((5, 1, 0), (5, 2, 1), prompt="b")])
    assert (first.accepted, first.verified) == (3, 5)
    assert first.low <= 0.6 <= first.high


def chain(drafted: int) -> st.SearchStrategy[tuple[int, int, int]]:
    """A round of a chain: everything up to the first rejection is tested."""
    return st.integers(0, drafted).map(lambda accepted: (drafted, min(accepted + 1, drafted), accepted))


rounds_of_chains = st.lists(st.integers(0, 8).flatmap(chain), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(rounds_of_chains)
def test_positions_add_up_to_the_row(rounds):
    item = made(*rounds)
    found = positions([item])
    assert sum(place.accepted for place in found) == item.accepted
    assert sum(place.verified for place in found) == item.verified


def test_oracle_by_hand():
    # (2 d + t(3)) + (5 d + t(6)) + t(1) = 1.6 + 2.5 + 1.0 for 10 tokens
    assert oracle([made(*THREE)], COSTS, PACKAGE) == pytest.approx(10 / 5.1)


@settings(max_examples=60, deadline=None)
@given(rounds_of_chains)
def test_no_policy_beats_the_oracle(rounds):
    item = made(*rounds)
    own = COSTS.speedup(PACKAGE, item.tokens / item.target_forwards, item.drafted / item.target_forwards)
    best = oracle([item], COSTS, PACKAGE)
    assert best >= own - 1e-12
    if item.drafted == item.accepted:  # nothing was drafted in vain: this row is its own oracle
        assert best == pytest.approx(own)
    else:
        assert best > own


def test_repeats_are_the_same_work_and_count_once():
    once, twice = [made(*THREE)], [made(*THREE), made(*THREE, repeat=1)]
    assert by_round(once, COSTS, {KEY}) == by_round(twice, COSTS, {KEY})


def test_drafter_forwards_are_told_only_where_they_are_the_drafts():
    (chain_entry,) = by_round([made(*THREE)], COSTS, {KEY})
    (tree_entry,) = by_round([made(*THREE)], COSTS, set())
    assert chain_entry.drafter_forwards == 15
    assert tree_entry.drafter_forwards is None
    plain = dataclasses.replace(made((0, 0, 0)), configuration=dataclasses.replace(KEY, executor="autoregressive"))
    assert by_round([plain], COSTS, set()) == ()
