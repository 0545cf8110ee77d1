"""What `make test` leaves out, `make test-all` runs; a slow test says why it is, and a skipped one is counted under its reason."""

import re
from types import SimpleNamespace

import pytest

from drafters.io.paths import REPOSITORY
from tests import conftest
from tests.data import NEEDS
from tests.tiers import slow_but


def recipe(target: str) -> str:
    found = re.search(rf"^{target}: .*\n\t@(.*)\n", (REPOSITORY / "Makefile").read_text(), re.M)
    assert found, target
    return found[1]


def test_all_is_more_than_the_rest_and_is_what_a_change_must_pass() -> None:
    assert recipe("test").replace(' -m "not slow"', "") == recipe("test-all")
    assert '-m "not slow"' in recipe("test")
    assert re.search(r"for target in .*\btest-all\b", (REPOSITORY / ".ci" / "run").read_text())


def test_one_case_is_kept() -> None:
    cases = slow_but("b", ["a", "b", "c"], "takes 3 s")
    assert cases[1] == "b"
    assert [mark.args for case in (cases[0], cases[2]) for mark in case.marks] == [("takes 3 s",)] * 2
    with pytest.raises(ValueError, match="to be kept, got 'd'"):
        slow_but("d", ["a", "b"], "takes 3 s")


@pytest.mark.parametrize("arguments", [(), (3,), ("one", "two")])
def test_a_slow_test_says_why(arguments: tuple[object, ...]) -> None:
    mark = pytest.mark.slow(*arguments).mark
    item = SimpleNamespace(nodeid="a_test", iter_markers=lambda name: [mark], get_closest_marker=lambda name: None)
    with pytest.raises(pytest.UsageError, match="a_test: slow: expected what takes how long"):
        conftest.pytest_collection_modifyitems([item])  # type: ignore[list-item]


def test_what_lies_beside_the_clone_is_one_reason() -> None:
    texts = [f"Skipped: {NEEDS}models", f"Skipped: {NEEDS}text/a.txt", "Skipped: needs a GPU"]
    reasons = [conftest.reason_of(SimpleNamespace(longrepr=("file", 1, text))) for text in texts]
    assert reasons[0] == reasons[1] != reasons[2] == "needs a GPU"
