"""Draws without replacement: the quadrature and the closed form against enumeration, for laws of any shape."""

import itertools

import numpy as np
import pytest
import torch

from eval.acceptance.optimal import _pairs_inside, optimal_acceptance
from eval.acceptance.race_ranks import rank_law
from eval.acceptance.without_replacement import BLOCK, all_inside, time_nodes


def enumerated(q: np.ndarray, num_drafts: int) -> np.ndarray:
    """Pr(all drafts in the prefix), for every prefix."""
    inside = np.zeros(len(q))
    for drafts in itertools.permutations(range(len(q)), min(num_drafts, len(q))):
        left, weight = list(range(len(q))), 1.0
        for i in drafts:
            weight *= q[i] / sum(q[j] for j in left)
            left.remove(i)
        inside[max(drafts) :] += weight
    return inside


def law(rng: np.random.Generator, decades: float) -> np.ndarray:
    q = 10.0 ** -rng.uniform(0, decades, int(rng.integers(1, 7)))
    return q / q.sum()


@pytest.mark.parametrize("decades", [1, 20, 280])  # up to a drafter that gives its second token 1e-280
@pytest.mark.parametrize("num_drafts", [1, 2, 3, 4])
def test_equals_the_enumeration(decades: float, num_drafts: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        q = law(rng, decades)
        expected = pytest.approx(enumerated(q, num_drafts), abs=1e-12)
        assert np.concatenate(list(all_inside(q, num_drafts))) == expected, q
        if num_drafts == 2:
            assert _pairs_inside(torch.tensor(q)[None])[0].numpy() == expected, q


def test_blocks_do_not_matter() -> None:
    """Two drafts from more tokens than a block holds: quadrature and closed form share no step."""
    q = np.random.default_rng(0).permutation(np.arange(1.0, 3 * BLOCK + 10) ** -1.5)
    q /= q.sum()
    found = np.concatenate(list(all_inside(q, 2)))
    assert found == pytest.approx(_pairs_inside(torch.tensor(q)[None])[0].numpy(), abs=1e-12)


def test_stopping_early_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, noise = 3 * torch.randn(2, 700, generator=generator, dtype=torch.float64)
    p, q = logits.softmax(-1), (logits + noise / 3).softmax(-1)
    order = (p / q).argsort()
    for num_drafts in (3, 5):
        inside = np.concatenate(list(all_inside(q[order].numpy(), num_drafts)))
        expected = 1 + min(0.0, float((p[order].cumsum(-1).numpy() - inside).min()))
        found = float(optimal_acceptance(p, q, num_drafts, "without_replacement"))
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("tail", "optimum", "ranks"),
    [
        ((1e-17, 1e-310), 1.0, [1 / 2, 1 / 2, 0.0]),
        ((1e-299, 1e-299), 1.0, [1 / 2, 1 / 3, 1 / 6]),
        ((1e-310, 1e-320), 0.5, [1 / 2, 0.0, 0.0]),  # less than 1e-300 counts as never drafted
        ((1e-320, 0.0), 0.5, [1 / 2, 0.0, 0.0]),
    ],
)
def test_numbers_at_the_end_of_fp64(tail: tuple[float, float], optimum: float, ranks: list[float]) -> None:
    p, q = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64), torch.tensor([1.0, *tail], dtype=torch.float64)
    for num_drafts in (2, 3, 4):
        found = float(optimal_acceptance(p, q, num_drafts, "without_replacement"))
        assert found == pytest.approx(optimum, abs=1e-12)
    assert float(optimal_acceptance(p, q, 4, "with_replacement")) == pytest.approx(0.5, abs=1e-12)
    assert rank_law(p, q, 3).tolist() == pytest.approx(ranks, abs=1e-12)


@pytest.mark.parametrize(("rate", "error"), [(1e-4, 1e-12), (1.0, 1e-12), (1e9, 2e-5)])  # EARLIEST * 1e9 is left out
def test_the_rule_integrates(rate: float, error: float) -> None:
    t, weight = time_nodes(1e6)
    assert float((rate * np.exp(-rate * t)) @ weight) == pytest.approx(1.0, abs=error)
