"""Acceptance of the verifiers against published tables (8 digits), and the estimators against the exact sums."""

import pytest
import torch
from torch import Tensor

from eval.acceptance.optimal import optimal_acceptance, race_acceptance
from eval.acceptance.race_ranks import rank_law
from eval.acceptance.verifier_formulas import (
    acceptance_kseq,
    acceptance_rrs_with_replacement,
    acceptance_token,
    estimate_rrs_without_replacement,
)
from tests.eval.acceptance.enumerated_formulas import (
    acceptance_deterministic,
    acceptance_rrs_without_replacement,
    expected_accepted,
    expected_accepted_block,
)

WITH, WITHOUT, GREEDY = "with_replacement", "without_replacement", "greedy"
LAWS = {
    "A": ([0.5, 0.3, 0.2], [0.2, 0.3, 0.5]),
    "B": ([0.618, 0.354, 0.028], [0.373, 0.58, 0.047]),
    "C": ([0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]),
    "D": ([0.7, 0.1, 0.1, 0.05, 0.05], [0.3, 0.3, 0.2, 0.1, 0.1]),
    "E": ([0.05, 0.05, 0.1, 0.2, 0.25, 0.35], [0.4, 0.25, 0.15, 0.1, 0.06, 0.04]),
    "F": ([0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]),
    "G": ([0.469, 0.124, 0.407], [0.201, 0.275, 0.524]),
    "H": ([0.148, 0.042, 0.745, 0.05, 0.015], [0.496, 0.136, 0.151, 0.008, 0.209]),
}
# case k: optimum with and without replacement, greedy, RRS with and without replacement, K-SEQ and its rho*, race
TABLE = """
A 1  .70000000 .70000000 .70000000 .70000000 .70000000 .70000000 1        .63076923
A 2  .86000000 .98571429 .90000000 .76000000 .82000000 .79135529 1.456776 .88873003
A 3  .98800000 1         1         .80800000 1         .85851861 1.792593 1
B 1  .75500000 .75500000 .75500000 .75500000 .75500000 .75500000 1        .75475725
B 2  .98887100 1         1         .84638500 .96314604 .88273179 1.342444 .98221943
B 3  1         1         1         .90368340 1         .94729016 1.515523 1
C 1  .60000000 .60000000 .60000000 .60000000 .60000000 .60000000 1        .54285714
C 2  .79000000 .83452381 .76666667 .72000000 .76428571 .75000000 1.5      .77619048
C 3  .87100000 1         .93333333 .76800000 .84029762 .79394997 1.939500 .91904762
D 2  .81000000 .87023810 1         .72000000 .75654762 .75000000 1.5      .81094115
D 3  .95700000 1         1         .80400000 .88297619 .84657818 1.821927 .93451756
E 1  .40000000 .40000000 .40000000 .40000000 .40000000 .40000000 1        .35434829
E 2  .56000000 .62875817 .53333333 .52000000 .58176471 .53620499 1.681025 .55414120
E 3  .67100000 .80426632 .68571429 .60800000 .69681606 .62423437 2.242344 .72417928
F 2  .75000000 .83333333 .83333333 .75000000 .83333333 .75000000 1.5      .83333333
F 3  .87500000 1         1         .87500000 1         .87500000 1.75     1
G 2  .89259900 1         .95326891 .78586800 .82326891 .81779727 1.426852 .89733434
G 3  1         1         1         .82890853 1         .88002755 1.736455 1
H 2  .49771900 .58751535 .52047619 .46512400 .53008053 .47878987 1.721949 .56626301
H 3  .61017668 .87728101 .74398305 .55016928 .75093256 .57372211 2.319007 .79622744
"""
CHAINS = {  # expected accepted tokens of chains of 1 to 4: token by token, block, race
    "A": ([0.7, 1.19, 1.533, 1.7731], [0.7, 1.25, 1.695, 2.0635], [0.630769, 1.028639, 1.279603, 1.437903]),
    "C": ([0.6, 0.96, 1.176, 1.3056], [0.6, 1.03, 1.346, 1.5894], [0.542857, 0.837551, 0.997528, 1.084372]),
    "E": ([0.4, 0.56, 0.624, 0.6496], [0.4, 0.621, 0.75065, 0.830543], [0.354348, 0.479911, 0.524404, 0.540170]),
}
TREES = {  # complete binary tree of depth 2: RRS with, without replacement, deterministic, random child first, race
    "A": (1.337600, 1.492400, 0.750000, 1.710000, 1.678571),
    "C": (1.238400, 1.348418, 0.390000, 1.354444, 1.378662),
}


def case(name: str) -> tuple[Tensor, Tensor]:
    p, q = LAWS[name]
    return torch.tensor(p, dtype=torch.float64), torch.tensor(q, dtype=torch.float64)


@pytest.mark.parametrize("row", TABLE.strip().splitlines())
def test_table(row: str) -> None:
    name, drafts, *expected = row.split()
    (p, q), k = case(name), int(drafts)
    kseq, rho = acceptance_kseq(p, q, k)
    found = [
        *(optimal_acceptance(p, q, k, scheme) for scheme in (WITH, WITHOUT, GREEDY)),
        acceptance_rrs_with_replacement(p, q, k),
        acceptance_rrs_without_replacement(p, q, k),
        kseq,
        rank_law(p, q, k).sum(),
    ]
    values = [float(x) for x in (*expected[:6], expected[7])]
    assert [float(x) for x in found] == pytest.approx(values, abs=1e-8)  # all digits there are
    assert float(rho) == pytest.approx(float(expected[6]), abs=1e-6)
    assert rho * torch.minimum(q, p / rho).sum() == pytest.approx(float(kseq), abs=1e-12)


def test_case_g3_is_a_known_rational() -> None:
    assert float(acceptance_rrs_with_replacement(*case("G"), 3)) == pytest.approx(207227133 / 250000000, abs=1e-15)


@pytest.mark.parametrize("name", CHAINS)
def test_chains(name: str) -> None:
    p, q = case(name)
    token, block, race = CHAINS[name]
    for depth in range(1, 5):
        assert float(expected_accepted(acceptance_token(p, q), depth)) == pytest.approx(token[depth - 1], abs=1e-12)
        assert float(expected_accepted_block(p, q, depth)) == pytest.approx(block[depth - 1], abs=6e-7)
        assert float(expected_accepted(race_acceptance(p, q), depth)) == pytest.approx(race[depth - 1], abs=6e-7)


def test_the_papers_example_of_block_verification() -> None:
    p, q = torch.tensor([1 / 3, 2 / 3], dtype=torch.float64), torch.tensor([2 / 3, 1 / 3], dtype=torch.float64)
    assert float(expected_accepted(acceptance_token(p, q), 2)) == pytest.approx(10 / 9, abs=1e-12)
    assert float(expected_accepted_block(p, q, 2)) == pytest.approx(11 / 9, abs=1e-12)


@pytest.mark.parametrize("name", TREES)
def test_trees(name: str) -> None:
    p, q = case(name)
    levels = [
        acceptance_rrs_with_replacement(p, q, 2),
        acceptance_rrs_without_replacement(p, q, 2),
        acceptance_deterministic(p, q, 2),
        optimal_acceptance(p, q, 2, GREEDY),
        rank_law(p, q, 2).sum(),
    ]
    assert [float(expected_accepted(level, 2)) for level in levels] == pytest.approx(TREES[name], abs=6e-7)


def test_block_is_never_below_token_by_token() -> None:
    generator = torch.Generator().manual_seed(0)
    for p, q in torch.rand(30, 2, 4, generator=generator, dtype=torch.float64):
        p, q = p / p.sum(), q / q.sum()
        for depth in (1, 2, 4):
            token = expected_accepted(acceptance_token(p, q), depth)
            assert expected_accepted_block(p, q, depth) >= token - 1e-12
        assert expected_accepted_block(p, p, 4) == pytest.approx(4.0, abs=1e-12)


@pytest.mark.parametrize("drafts", [1, 2, 3, 5])
def test_estimate_of_rrs_without_replacement(drafts: int) -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = torch.stack([torch.stack(case(name)) for name in "CFC"]).unbind(1)
    q[2] = torch.tensor([0.5, 0.5, 0.0, 0.0])  # a drafter that runs out of tokens
    exact = acceptance_rrs_without_replacement(p, q, drafts)
    found = estimate_rrs_without_replacement(p, q, drafts, 4000, generator)
    assert found.mean.shape == found.standard_error.shape == (3,)
    assert ((found.mean - exact).abs() <= 4.5 * found.standard_error + 1e-12).all()
    assert (found.standard_error < 0.01).all()
    assert float(exact[2]) == pytest.approx(0.7, abs=1e-12)  # of any number of drafts


def test_estimate_does_not_depend_on_how_samples_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    p, q = case("C")
    monkeypatch.setattr("eval.acceptance.verifier_formulas.CHUNK", 4 * 64)  # 64 samples at a time
    found = estimate_rrs_without_replacement(p, q, 3, 1000, torch.Generator().manual_seed(1))
    assert abs(float(found.mean) - 0.84029762) <= 4.5 * float(found.standard_error)
    assert 0 < float(found.standard_error) < 0.01


def test_refuses_what_it_cannot_sum() -> None:
    uniform = torch.full((1000,), 1e-3, dtype=torch.float64)
    with pytest.raises(ValueError, match="use estimate_rrs_without_replacement"):
        acceptance_rrs_without_replacement(uniform, uniform, 3)
    with pytest.raises(ValueError, match=r"V\^depth"):
        expected_accepted_block(uniform, uniform, 3)
    with pytest.raises(ValueError, match="samples must be at least 2"):
        estimate_rrs_without_replacement(uniform, uniform, 2, 1, torch.Generator())
    for refuses in (acceptance_rrs_with_replacement, acceptance_kseq, acceptance_deterministic):
        with pytest.raises(ValueError, match="num_drafts must be at least 1, got 0"):
            refuses(uniform, uniform, 0)
