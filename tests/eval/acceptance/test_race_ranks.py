"""Rank laws against published values, against the enumeration of what they mean, and against simulated races."""

import pytest
import torch
from torch import Tensor

from eval.acceptance.optimal import race_acceptance
from eval.acceptance.race_ranks import estimate_rank_law, race_speedup_ceiling, rank_law

LAWS = {
    "A": ([0.5, 0.3, 0.2], [0.2, 0.3, 0.5]),
    "C": ([0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]),
    "H": ([0.148, 0.042, 0.745, 0.05, 0.015], [0.496, 0.136, 0.151, 0.008, 0.209]),
}


def case(name: str) -> tuple[Tensor, Tensor]:
    p, q = LAWS[name]
    return torch.tensor(p, dtype=torch.float64), torch.tensor(q, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "expected", "digits"),
    [
        ("A", [0.63076923, 0.25796079, 0.11126997], 1e-8),
        ("C", [0.54285714, 0.23333333, 0.14285714, 0.08095238], 1e-8),
        ("H", [0.3548, 0.2115, 0.2300, 0.1991, 0.0047], 6e-5),
    ],
)
def test_published_laws(name: str, expected: list[float], digits: float) -> None:
    law = rank_law(*case(name), len(expected))
    assert law.tolist() == pytest.approx(expected, abs=digits)
    assert float(law.sum()) == pytest.approx(1.0, abs=1e-12)


def random_pairs(rows: int = 40, vocabulary: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    p, q = torch.rand(2, rows, vocabulary, generator=generator, dtype=torch.float64) ** 3
    p[::3, 0] = 0.0
    q[::4, 1:3] = 0.0
    return p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)


def test_sums_to_what_the_drafter_can_say() -> None:
    p, q = random_pairs()
    law = rank_law(p, q, 6)
    torch.testing.assert_close(law.sum(-1), (p * (q > 0)).sum(-1), rtol=0, atol=1e-12)
    torch.testing.assert_close(law[:, 0], race_acceptance(p, q), rtol=0, atol=1e-12)
    assert rank_law(p, p, 2)[:, 0].tolist() == pytest.approx([1.0] * len(p), abs=1e-12)
    assert rank_law(p[:0], q[:0], 2).shape == (0, 2)


def test_a_drafter_far_from_the_target() -> None:
    """Times of the two races that are 12 orders of magnitude apart."""
    p = torch.tensor([1.0 - 1e-12, 1e-12], dtype=torch.float64)
    law = rank_law(p, p.flip(0), 2)
    assert float(law[0]) == pytest.approx(float(race_acceptance(p, p.flip(0))), abs=1e-13)
    assert float(law.sum()) == pytest.approx(1.0, abs=1e-13)


def test_simulated_races(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.acceptance.race_ranks.CHUNK", 6 * 3000)  # 3000 races at a time
    p, q = random_pairs(8)
    exact = rank_law(p, q, 4)
    found = estimate_rank_law(p, q, 4, 20_000, torch.Generator().manual_seed(0), z=4.5)
    assert found.law.shape == (8, 4)
    assert ((found.low <= exact) & (exact <= found.high)).all()
    assert ((found.high - found.low) < 0.04).all()
    narrow = estimate_rank_law(p, q, 4, 20_000, torch.Generator().manual_seed(0))
    assert (narrow.low >= found.low).all()
    assert (narrow.high <= found.high).all()


def test_ceiling() -> None:
    law = rank_law(*case("C"), 4)
    published = {1: 1.804, 4: 2.599, 16: 3.661, 64: 4.824, 1024: 7.217}
    found = [float(race_speedup_ceiling(law, 4, nodes)) for nodes in published]
    assert found == pytest.approx(list(published.values()), abs=6e-4)
    # what the best trees really give stays below
    best_trees = [1.543, 2.231, 3.258, 4.408, 6.794]
    assert [tree_value(law.tolist(), nodes) for nodes in published] == pytest.approx(best_trees, abs=6e-4)
    assert all(tree < ceiling for tree, ceiling in zip(best_trees, found, strict=True))


def tree_value(law: list[float], nodes: int) -> float:
    """1 + the sum over the most probable nodes, each reached by a path of independent ranks."""
    paths, total = [1.0], 1.0
    open_nodes = [law[0]]
    children = [(1.0, 0)]
    for _ in range(nodes):
        best = max(range(len(open_nodes)), key=open_nodes.__getitem__)
        probability, (parent, rank) = open_nodes.pop(best), children.pop(best)
        total += probability
        paths.append(probability)
        if rank + 1 < len(law):
            open_nodes.append(parent * law[rank + 1])
            children.append((parent, rank + 1))
        open_nodes.append(probability * law[0])
        children.append((probability, 0))
    return total


def test_ceiling_of_an_incomplete_law_is_higher() -> None:
    law = rank_law(*case("H"), 5)
    whole, part = race_speedup_ceiling(law, 5, 8), race_speedup_ceiling(law[:3], 5, 8)
    assert part > whole
    certain = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert float(race_speedup_ceiling(certain, 5, 8)) == float("inf")
    assert race_speedup_ceiling(torch.stack([law, law]), 5, 8).tolist() == pytest.approx([float(whole)] * 2, abs=1e-12)


def test_refuses() -> None:
    p, q = case("A")
    with pytest.raises(ValueError, match="ranks must be at least 1, got 0"):
        rank_law(p, q, 0)
    with pytest.raises(ValueError, match="use estimate_rank_law"):
        rank_law(torch.full((600,), 1 / 600), torch.full((600,), 1 / 600), 2)
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        estimate_rank_law(p, q, 2, 0, torch.Generator())
    with pytest.raises(ValueError, match="give probabilities, not counts"):
        race_speedup_ceiling(torch.tensor([30.0, 12.0]), 5, 8)
    with pytest.raises(ValueError, match="must be at least 1, got 5 and 0"):
        race_speedup_ceiling(torch.tensor([0.5, 0.5]), 5, 0)
