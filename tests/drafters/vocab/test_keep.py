"""Which tokens are kept: by count, ties by id, protected ones first, and nothing silently."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from drafters.errors import DraftersError
from drafters.vocab.keep import (
    BelowProtected,
    CountMismatch,
    EmptyCounts,
    KeepError,
    TooManyTokens,
    rank,
    select,
    share,
)


def ids(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


COUNTS = ids(5, 0, 40, 5, 10, 0, 40, 0)
NONE = ids()


def test_most_frequent_first_ties_by_lowest_id():
    everything = torch.ones(8, dtype=torch.bool)
    assert rank(COUNTS, NONE, everything).tolist() == [2, 6, 4, 0, 3, 1, 5, 7]
    kept = select(COUNTS, NONE, size=4)
    assert kept.kept.tolist() == [0, 2, 4, 6]
    assert kept.coverage == 0.95
    assert (kept.protected, kept.uncounted) == (0, 0)


def test_protected_tokens_come_first_whatever_their_count():
    kept = select(COUNTS, ids(7, 4, 7), size=3)
    assert kept.kept.tolist() == [2, 4, 7]
    assert kept.coverage == 0.5
    assert kept.protected == 2


def test_a_size_beyond_the_counted_tokens_is_filled_by_id_and_says_so():
    kept = select(COUNTS, ids(7), size=7)
    assert kept.kept.tolist() == [0, 1, 2, 3, 4, 6, 7]
    assert kept.uncounted == 1  # id 1: never counted and not protected


@pytest.mark.parametrize(
    ("coverage", "expected"), [(0.4, [2]), (0.41, [2, 6]), (0.8, [2, 6]), (0.95, [0, 2, 4, 6]), (1.0, [0, 2, 3, 4, 6])]
)
def test_a_coverage_takes_the_fewest_tokens_that_reach_it(coverage, expected):
    assert select(COUNTS, NONE, coverage=coverage).kept.tolist() == expected


def test_a_coverage_never_drops_a_protected_token():
    assert select(COUNTS, ids(2, 5), coverage=0.1).kept.tolist() == [2, 5]


def test_ids_that_cannot_be_kept_stay_in_the_denominator():
    eligible = torch.tensor([True, True, False, True, True, True, True, True])
    kept = select(COUNTS, NONE, size=2, eligible=eligible)
    assert kept.kept.tolist() == [4, 6]
    assert kept.coverage == 0.5
    with pytest.raises(TooManyTokens, match=r"all 7 tokens that can be kept cover 60\.0000%"):
        select(COUNTS, NONE, coverage=0.61, eligible=eligible)


def test_every_domain_reaches_its_minimum():
    domains = {"code": ids(5, 0, 40, 5, 0, 0, 40, 0), "prose": ids(0, 0, 0, 0, 10, 0, 0, 0)}
    plain = select(COUNTS, NONE, size=2, domains=domains)
    assert plain.kept.tolist() == [2, 6]
    assert plain.domain_coverage == {"code": 80 / 90, "prose": 0.0}
    served = select(COUNTS, NONE, size=2, domains=domains, min_domain_coverage=0.4)
    assert served.kept.tolist() == [2, 4]
    assert served.domain_coverage == {"code": 40 / 90, "prose": 1.0}
    filled = select(COUNTS, NONE, size=3, domains=domains, min_domain_coverage=0.4)
    assert filled.kept.tolist() == [2, 4, 6]
    grown = select(COUNTS, NONE, coverage=0.5, domains=domains, min_domain_coverage=0.9)
    assert grown.kept.tolist() == [0, 2, 4, 6]
    with pytest.raises(BelowProtected, match="expected at least 3"):
        select(COUNTS, NONE, size=2, domains=domains, min_domain_coverage=0.8)


def test_a_minimum_that_already_holds_changes_nothing():
    domains = {"a": COUNTS, "empty": torch.zeros(8, dtype=torch.int64)}
    kept = select(COUNTS, NONE, size=3, domains=domains, min_domain_coverage=0.9)
    assert torch.equal(kept.kept, select(COUNTS, NONE, size=3).kept)
    assert kept.domain_coverage == {"a": 0.9, "empty": 1.0}


def test_a_domain_that_cannot_be_covered_is_named():
    eligible = torch.ones(8, dtype=torch.bool)
    eligible[4] = False
    with pytest.raises(TooManyTokens, match="domain 'prose'"):
        select(
            COUNTS, NONE, size=3, eligible=eligible,
            domains={"prose": ids(0, 0, 0, 0, 9, 1, 0, 0)}, min_domain_coverage=0.5,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"size": 9}, TooManyTokens, r"9 tokens were asked for, but only 8 can be kept.*set prune\.size to at most 8"),
        ({"size": 1, "protected": ids(1, 2)}, BelowProtected, "1 tokens cannot hold .* expected at least 2"),
        ({"size": 0}, BelowProtected, "expected at least 1"),
        ({"size": -3}, BelowProtected, "expected at least 1"),
        ({"counts": ids(*[0] * 8), "size": 2}, EmptyCounts, "all 8 counts are zero"),
        ({"eligible": torch.ones(9, dtype=torch.bool), "size": 2}, CountMismatch, r"\(V,\)=\(9,\), got .*\(8,\)"),
        ({"counts": COUNTS.int(), "size": 2}, CountMismatch, "must be int64"),
        ({"counts": COUNTS - 1, "size": 2}, CountMismatch, "0 or more, got -1"),
        ({"protected": ids(8), "size": 2}, CountMismatch, r"protected ids must lie in \[0, 8\), got \[8, 8\]"),
        ({"protected": ids(-1), "size": 2}, CountMismatch, r"got \[-1, -1\]"),
        ({"domains": {"x": ids(1)}, "size": 2}, CountMismatch, "counts of domain 'x'"),
        ({"min_domain_coverage": 0.5, "size": 2}, CountMismatch, "not split by domain"),
        ({"min_domain_coverage": 1.5, "size": 2}, KeepError, "prune.min_domain_coverage"),
        ({}, KeepError, "a size or a coverage"),
        ({"size": 2, "coverage": 0.5}, KeepError, "a size or a coverage"),
        ({"coverage": 0.0}, KeepError, r"\(0, 1\], got 0.0"),
        ({"coverage": 98.0}, KeepError, r"\(0, 1\], got 98.0"),
    ],
)
def test_a_selection_that_cannot_be_made_says_why(arguments, error, message):
    arguments = {"counts": COUNTS, "protected": NONE} | arguments
    with pytest.raises(error, match=message) as raised:
        select(arguments.pop("counts"), arguments.pop("protected"), **arguments)
    assert isinstance(raised.value, DraftersError)


counts_lists = st.lists(st.integers(0, 50), min_size=2, max_size=24).filter(any)


@given(counts_lists, st.data())
def test_no_other_set_of_that_size_covers_more(values, data):
    counts = ids(*values)
    protected = ids(*data.draw(st.sets(st.integers(0, len(values) - 1), max_size=3)))
    size = data.draw(st.integers(max(1, len(protected)), len(values)))
    kept = select(counts, protected, size=size)
    assert len(kept.kept) == size
    assert kept.kept.tolist() == sorted(set(kept.kept.tolist()))
    assert set(protected.tolist()) <= set(kept.kept.tolist())
    free = sorted((count for i, count in enumerate(values) if i not in protected.tolist()), reverse=True)
    best = int(counts[protected].sum()) + sum(free[: size - len(protected)])
    assert kept.coverage == best / sum(values) == share(counts, kept.kept)


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=30, unique=True), st.data())
def test_renumbering_the_vocabulary_renumbers_the_selection(values, data):
    counts = ids(*values)
    new = torch.tensor(data.draw(st.permutations(range(len(values)))))  # old id -> new id
    protected = ids(*data.draw(st.sets(st.integers(0, len(values) - 1), max_size=3)))
    size = data.draw(st.integers(max(1, len(protected)), len(values)))
    before = select(counts, protected, size=size)
    after = select(counts[new.argsort()], new[protected], size=size)
    assert torch.equal(after.kept, new[before.kept].sort().values)
    assert (after.coverage, after.uncounted) == (before.coverage, before.uncounted)


@given(counts_lists, st.floats(0.01, 1.0))
def test_one_token_less_would_miss_the_coverage(values, coverage):
    counts = ids(*values)
    kept = select(counts, NONE, coverage=coverage)
    assert kept.coverage >= coverage
    assume(len(kept.kept) > 1)
    assert select(counts, NONE, size=len(kept.kept) - 1).coverage < coverage
