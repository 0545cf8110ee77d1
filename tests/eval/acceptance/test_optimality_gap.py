"""A verifier's expected acceptance is that of its own code with every branch taken; ranks and ceilings are the spec's."""

import pytest
import torch

from drafters.samplers.catalog import CATALOG, applies, build
from drafters.samplers.draft import Tree
from drafters.samplers.proposal.identity import Identity
from drafters.vocab.alignment import identity
from eval.acceptance.observed_laws import Observed
from eval.acceptance.optimal import optimal_acceptance
from eval.acceptance.optimality_gap import _ACCEPTANCE, best, draft_law, expected, optimum, ranks
from eval.acceptance.race_ranks import race_speedup_ceiling, rank_law
from eval.lossless.exact.one_round import one_round, random_laws

SAMPLERS = {name: build(name, identity(4), tail=True) for name in CATALOG if applies(name, identity(4), tail=True)}
# A verifier that is added has no formula until someone writes one.
KNOWN = [name for name, sampler in SAMPLERS.items() if type(sampler.verifier) in _ACCEPTANCE]
CASE_C = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).double(), torch.tensor([[0.1, 0.2, 0.3, 0.4]]).double()


def laws(seed: int, rows: int = 6) -> Observed:
    generator = torch.Generator().manual_seed(seed)
    p, q = (torch.cat([random_laws(4, 0, generator, 0.2) for _ in range(rows)]) for _ in range(2))
    return Observed(p, q, torch.zeros(rows, dtype=torch.bool), 0)


def test_the_verifiers_that_are_here_have_a_formula():
    assert len(KNOWN) >= 14
    assert len({type(SAMPLERS[name].verifier) for name in KNOWN}) >= 8


@pytest.mark.parametrize("name", [name for name in KNOWN if SAMPLERS[name].verifier.needs_law])
def test_expected_acceptance_is_what_the_verifiers_code_does(name):
    sampler, seen = SAMPLERS[name], laws(3)
    _, count = draft_law(sampler)
    found = expected(sampler, seen, count, torch.Generator().manual_seed(0))
    rounds = [one_round(sampler.verifier, (count,), seen.p[[row]], seen.q[[row]]) for row in range(len(seen.p))]
    tolerance = {"rrs_wor": 0.1, "kseq": 1e-9}.get(name, 1e-12)  # sampled draws; a bisection
    assert found.tolist() == pytest.approx([outcome.expected for outcome in rounds], abs=tolerance)


def test_draft_laws_and_children_follow_from_the_sampler():
    found = {name: draft_law(sampler) for name, sampler in SAMPLERS.items()}
    assert found["standard"] == found["block"] == found["exact_match"] == ("with_replacement", 1)
    assert found["race"] == ("without_replacement", 1)
    assert found["rrs"] == found["kseq"] == ("with_replacement", 3)
    assert found["rrs_wor"] == ("without_replacement", 3)
    assert found["greedy"] == found["traversal"] == ("greedy", 3)
    assert isinstance(SAMPLERS["race_tree"].shape, Tree)
    assert found["race_tree"] == ("without_replacement", SAMPLERS["race_tree"].shape.levels[0][0])


def test_the_optimum_is_the_bounds_and_the_gap_is_to_it():
    seen = laws(5, rows=40)
    sampler = SAMPLERS["rrs"]
    found = optimum(sampler, seen, seen, best(seen, *draft_law(sampler)))
    assert found.optimal_acceptance == pytest.approx(
        float(optimal_acceptance(seen.p, seen.q, 3, "with_replacement").mean())
    )
    assert found.gap_to_optimum == pytest.approx(found.optimal_acceptance - found.expected_acceptance)
    assert found.gap_to_optimum > 0.005
    assert optimum(SAMPLERS["greedy"], seen, seen, best(seen, "greedy", 3)).gap_to_optimum == pytest.approx(
        0, abs=1e-12
    )
    assert found.measured_at_root == 0.0
    assert found.z_at_root < -5


def test_a_costly_optimum_is_taken_on_a_part(monkeypatch):
    seen = laws(6, rows=40)
    assert len(best(seen, "without_replacement", 3)) == 40
    monkeypatch.setattr("eval.acceptance.optimality_gap.COSTLY", 40)  # tokens, of 4 in each law
    assert len(best(seen, "without_replacement", 3)) == 10
    assert len(best(seen, "without_replacement", 2)) == len(best(seen, "greedy", 3)) == 40


def test_ranks_are_those_of_the_exact_law_and_the_ceiling_is_the_specs():
    p, q = CASE_C
    many = Observed(p.expand(400, 4), q.expand(400, 4), torch.zeros(400, dtype=torch.bool), 0)
    found = ranks(many)
    exact = rank_law(p, q, 4)[0]
    error = (exact * (1 - exact) / (400 * 32)).sqrt()
    assert ((torch.tensor(found.law[:4]) - exact).abs() < 5 * error + 1e-12).all()
    assert found.race_acceptance == pytest.approx(0.54285714, abs=1e-8)
    for nodes, ceiling in ((1, 1.804), (4, 2.599), (16, 3.661)):
        assert float(race_speedup_ceiling(exact, 4, nodes)) == pytest.approx(ceiling, abs=1e-3)
        assert found.ceiling(4, nodes) == pytest.approx(ceiling, rel=0.03)
    certain = Observed(p, p, torch.zeros(1, dtype=torch.bool), 0)
    assert ranks(certain).ceiling(4, 3) is None  # no finite number, so none


def test_the_observers_identity_is_the_catalogs():
    assert all(isinstance(SAMPLERS[name].proposal, Identity) for name in ("standard", "block", "race", "traversal"))
