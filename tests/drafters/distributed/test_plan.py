"""The bound ceil(t / (k d))."""

import pytest

from drafters.distributed.plan import Plan, PlanError, servers_needed


def test_the_papers_example():
    """Seven targets at k = 1 suffice from d / t = 14.3 %."""
    assert servers_needed(1.0, 0.143, 1) == 7
    assert servers_needed(1.0, 0.142, 1) == 8


def test_rounding_asks_for_no_further_server():
    assert servers_needed(0.3, 0.1, 1) == 3
    assert servers_needed(0.3, 0.1, 3) == 1


def test_an_error_names_the_setting():
    with pytest.raises(PlanError, match=r"executor\.servers=0"):
        Plan(5, 0)
