"""Which pruned tokens a tail covers."""

import pytest
import torch

from pipeline.fit.tail_fit import likeliest, named

IDS = torch.tensor([1, 3, 4, 6, 7])
MASS = torch.tensor([9.0, 0.2, 9.0, 0.5, 0.1, 9.0, 0.2, 0.3])  # of kept ones, too: they do not count


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (1.0, [1, 3, 4, 6, 7]),
        (0.8, [1, 3, 6, 7]),
        (0.6, [1, 3, 7]),
        (0.4, [3, 7]),
        (0.21, [3, 7]),
        (0.2, [3]),
        (1e-9, [3]),
    ],
)
def test_the_likeliest_pruned_tokens_in_ascending_order(share, expected):
    assert likeliest(IDS, MASS, share).tolist() == expected  # 1 and 6 weigh the same: the lower id first


def test_names():
    assert [named(12, 1.0), named(28, 0.4)] == ["tail_free_12", "tail_free_28_top40"]
