"""Formulas of the curve: the oracle is the best of all ways to give, intervals hold their means, the knee is cheap and near."""

import pytest
import torch

from eval.acceptance.vocabulary_curve import Sums, gain, knee, oracle, overlap, tokens_per_second

P = torch.tensor([[0.40, 0.20, 0.10, 0.15, 0.10, 0.05]], dtype=torch.float64)
Q = torch.tensor([[0.50, 0.30, 0.10]], dtype=torch.float64) / 0.9
KEPT = torch.arange(3)


def test_the_oracle_is_the_best_share_and_the_best_receivers():
    # p(O) = .3 given to O as the target has it: .3 + min(.4, .7 * 5/9) + min(.2, .7 / 3) + min(.1, .7 / 9)
    assert float(oracle(P, Q, KEPT)) == pytest.approx(0.3 + 0.7 * 5 / 9 + 0.2 + 0.7 / 9, abs=1e-12)
    best = 0.0
    for share in torch.linspace(0, 1, 1001).tolist():
        law = torch.cat([(1 - share) * Q, share * P[:, 3:] / 0.3], 1)
        best = max(best, float(overlap(P, law)))
    assert float(oracle(P, Q, KEPT)) == pytest.approx(best, abs=1e-3)
    assert float(oracle(P, Q, KEPT)) >= best - 1e-12


def test_sums_by_document():
    sums, base = Sums(), Sums()
    for document in range(20):
        sums.add(document % 5, torch.full((3,), 0.5 + 0.01 * document))
        base.add(document % 5, torch.full((3,), 0.4 + 0.01 * document))
    found = sums.report()
    assert found["acceptance"] == pytest.approx(0.595)
    assert found["low"] < 0.595 < found["high"]
    paired = gain(sums, base)
    assert [paired[key] for key in ("gain", "low", "high")] == pytest.approx([0.1] * 3)  # of every document alike


def test_tokens_per_second():
    assert tokens_per_second(0.0, 5, 1.0, 2.0) == pytest.approx(1 / 7)
    assert tokens_per_second(1.0, 5, 1.0, 2.0) == pytest.approx(6 / 7)
    assert tokens_per_second(0.5, 2, 1.0, 2.0) == pytest.approx(1.75 / 4)


def test_the_knee_is_the_smallest_head_near_the_best():
    def row(speed, share):
        return {"tokens_per_second": speed, "head_share": share}

    rows = [row(100, 1.0), row(99.5, 0.2), row(98, 0.1), row(None, 0.01)]
    assert knee(rows) == rows[1]
    assert knee(rows, tolerance=0.05) == rows[2]
    assert knee(rows[3:]) is None
