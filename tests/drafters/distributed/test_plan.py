"""The bound ceil(t / (k d))."""

import pytest

from drafters.distributed.plan import Plan, PlanError, make_plan, servers_needed, smallest_lookahead


def test_the_papers_example():
    """Seven targets at k = 1 suffice from d / t = 14.3 %."""
    assert servers_needed(1.0, 0.143, 1) == 7
    assert servers_needed(1.0, 0.142, 1) == 8
    assert smallest_lookahead(1.0, 0.143, 7) == 1


@pytest.mark.parametrize("servers", range(1, 9))
def test_the_two_bounds_agree(servers):
    for c in (0.01, 0.05, 0.1, 0.3, 0.99, 1.5):
        k = smallest_lookahead(1.0, c, servers)
        assert servers_needed(1.0, c, k) <= servers
        assert k == 1 or servers_needed(1.0, c, k - 1) > servers


def test_rounding_asks_for_no_further_server():
    assert servers_needed(0.3, 0.1, 1) == 3
    assert servers_needed(0.3, 0.1, 3) == 1


def test_what_is_given_is_kept():
    assert make_plan(1.0, 0.1) == Plan(2, 5)
    assert make_plan(1.0, 0.1, servers=3) == Plan(4, 3)
    assert make_plan(1.0, 0.1, lookahead=5) == Plan(5, 2)
    assert make_plan(1.0, 0.1, 4, 5) == Plan(5, 4)


def test_errors_name_what_works():
    with pytest.raises(PlanError, match=r"executor\.servers=4, or executor\.lookahead=5"):
        make_plan(1.0, 0.1, servers=2, lookahead=3)
    with pytest.raises(PlanError, match=r"executor\.servers=0"):
        Plan(5, 0)
    with pytest.raises(PlanError, match="more than 0"):
        make_plan(0.0, 0.1)
