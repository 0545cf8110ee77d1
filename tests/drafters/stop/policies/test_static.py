"""A static policy drafts a constant number of tokens, none included."""

import pytest
import torch

from drafters.stop.policies.static import Static


@pytest.mark.parametrize("length", [0, 1, 5])
def test_it_stops_at_its_length(length):
    policy = Static(length)
    drafted = torch.arange(8)
    assert policy.should_continue(None, drafted).tolist() == [count < length for count in range(8)]
    assert policy.max_length == length


def test_it_learns_nothing():
    policy = Static(2)
    policy.reset(torch.arange(3))
    policy.on_verified(torch.tensor([2, 0]), torch.tensor([2, 2]), torch.tensor([0, 2]))
    assert policy == Static(2)


def test_a_negative_length_is_refused():
    with pytest.raises(ValueError, match=r"stop.length must be >= 0 .*got -1"):
        Static(-1)
