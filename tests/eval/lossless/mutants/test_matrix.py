"""Every planted bug is found by the quick kinds of test; the gate runs the samples, too."""

import re

import pytest

from eval.lossless.mutants import matrix
from eval.lossless.mutants.matrix import MUTANTS, combinations, examine
from eval.lossless.mutants.subject import KINDS, SAMPLED, Mutant, instead

QUICK = [(number, kind) for number, kind in combinations() if kind != SAMPLED]


@pytest.mark.parametrize(("number", "kind"), QUICK, ids=[f"{MUTANTS[n].title}, {kind}" for n, kind in QUICK])
def test_found(number, kind):
    assert examine(number, kind).passed


def test_the_known_defects_are_all_there():
    sources = {mutant.source for mutant in MUTANTS}
    assert {f"M{number}" for number in range(1, 21)} <= sources
    titles = " ".join(mutant.title for mutant in MUTANTS)
    for trap in ("skipped", "not renormalised", "sorted", "residual from p", "first failure", "certain children first",
                 "raw logits", "race: new draw", "tree slot", "position-only keys in block", "bonus from the wrong row",
                 "drops a token"):  # fmt: skip
        assert trap in titles, trap


def test_a_kind_left_out_has_a_reason():
    for mutant in MUTANTS:
        assert set(mutant.kinds) <= set(KINDS)
        assert mutant.blind or {"exact law", "chi-square"} <= set(mutant.kinds), mutant.title


def test_right_code_is_not_found(monkeypatch):
    harmless = Mutant("none", "nothing is wrong", MUTANTS[0].subject, instead(), ("exact law", "batch"))
    monkeypatch.setattr(matrix, "MUTANTS", [harmless])
    assert not examine(0, "exact law").killed
    assert not examine(0, "batch").passed


def test_a_mutant_without_a_test_is_refused(monkeypatch):
    monkeypatch.setattr(matrix, "MUTANTS", [Mutant("none", "nobody looks", MUTANTS[0].subject, instead(), ())])
    with pytest.raises(ValueError, match=re.escape("'nobody looks' is killed by nothing")):
        combinations()
