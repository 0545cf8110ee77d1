"""ROC and reliability of the classifier, against counts made by hand and areas made by comparing all pairs."""

from itertools import pairwise

import pytest
import torch

from pipeline.disco.stop_model import curves, expected_calibration_error


@pytest.fixture(scope="module")
def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    """2,000 calibrated probabilities."""
    random = torch.Generator().manual_seed(0)
    said = torch.rand(2000, generator=random)
    return said, torch.bernoulli(said, generator=random).long()


def test_bins_by_hand():
    said = torch.tensor([0.01, 0.03, 0.5, 0.99, 1.0])
    found = curves(said, torch.tensor([0, 1, 1, 1, 1]))["bins"]
    assert [item["count"] for item in found] == [2, 1, 2]
    assert [item["observed"] for item in found] == [0.5, 1.0, 1.0]
    assert [item["predicted"] for item in found] == pytest.approx([0.02, 0.5, 0.995])


def test_bins_make_the_calibration_error(drawn):
    bins = curves(*drawn)["bins"]
    error = sum(item["count"] * abs(item["predicted"] - item["observed"]) for item in bins) / len(drawn[0])
    assert error == pytest.approx(expected_calibration_error(*drawn), abs=1e-6)


def test_area_is_the_share_of_pairs_in_order(drawn):
    said, happened = drawn
    yes, no = said[happened == 1], said[happened == 0]
    assert curves(said, happened)["auc"] == pytest.approx(float((yes[:, None] > no).double().mean()), abs=1e-6)


def test_roc_rises_from_corner_to_corner(drawn):
    points = [(item["false_positive"], item["true_positive"]) for item in curves(*drawn)["roc"]]
    assert points == sorted(points)
    assert points[0] == pytest.approx((0.0, 0.0), abs=0.05)
    assert points[-1] == pytest.approx((1.0, 1.0))
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))
    assert area == pytest.approx(curves(*drawn)["auc"], abs=5e-3)
