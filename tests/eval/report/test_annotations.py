"""Rows say what is proved, what is lossy and why, and hold numbers or null."""

import dataclasses
import json

import pytest
import torch

from drafters.probs import Sampling
from drafters.samplers.catalog import build
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import identity
from eval.acceptance.optimality_gap import Optimum, Ranks
from eval.costs.forwards import Costs, Timing
from eval.expectation.expectation_summary import Expected
from eval.report.annotations import RowEvidence, annotate, proved_since
from eval.report.row import ReportRow
from eval.run.configurations import Contender
from eval.run.metrics import Estimate
from eval.run.records import AUTOREGRESSIVE, PACKAGE, SPECULATIVE, Configuration
from eval.run.trials import Warps

SECOND = Timing(1.0, 1.0, 1.0, 3)
COSTS = Costs({1: SECOND, 16: SECOND}, {PACKAGE: Timing(0.1, 0.1, 0.1, 3)}, 8)
PLAIN = Contender(Configuration(None, None, AUTOREGRESSIVE, None, 1.0, None), None)
OPTIMUM = Optimum(9, 3, 0.6, 0.61, -0.1, 0, 1.0, 8, 0.62, 0.7, 0.08)


BARE = ReportRow(
    sampler="block", executor=SPECULATIVE, stop="static", temperature=1.0, kept=8, accepted=10, drafted=50, target_forwards=10,
    tokens=20, acceptance_rate=0.5, acceptance_rate_low=None, acceptance_rate_high=None, block_efficiency=2.0,
    tokens_per_second=None, speedup_vs_autoregressive=None, speedup_vs_unpruned=None, verified=20,
)  # fmt: skip


def contender(name: str, **changes) -> Contender:
    key = Configuration(PACKAGE, name, SPECULATIVE, "static", 1.0, 8, name)
    return Contender(key, None, build(name, identity(8)), None, Static(5), **changes)


def bare(item: Contender) -> ReportRow:
    return dataclasses.replace(BARE, **vars(item.configuration))


def annotated(*contenders: Contender, optima=None, ranks=None, certificate=None, expected=None) -> list[ReportRow]:
    evidence = RowEvidence(optima or {}, ranks or {}, certificate, expected or {})
    rows = annotate(map(bare, contenders), contenders, evidence, COSTS, 8, Warps())
    json.dumps([dataclasses.asdict(row) for row in rows], allow_nan=False)
    return rows


def certificate(**statuses: str) -> dict:
    return {"code": "c0de", "samplers": {name: {"status": status} for name, status in statuses.items()}}


def test_only_a_certificate_makes_a_row_lossless():
    names = ("block", "race", "rrs")
    assert [row.lossless for row in annotated(*map(contender, names))] == ["not proven"] * 3
    found = annotated(
        PLAIN, *map(contender, names), certificate=certificate(block="exact", race="pathwise", rrs="not_run")
    )
    assert [row.lossless for row in found] == [None, "exact", "pathwise", "not proven"]


def test_a_later_certificate_counts_for_the_same_code_alone(report):
    row = dataclasses.replace(BARE, lossless="not proven")
    own = dataclasses.replace(report, code="c0de", rows=(row,))
    assert proved_since(own, certificate(block="exact")).rows[0].lossless == "exact"
    other = dataclasses.replace(own, code="other")
    assert proved_since(other, certificate(block="exact")) == other
    assert proved_since(own, None) == own
    lossy = dataclasses.replace(own, rows=(dataclasses.replace(row, lossy="why"),))
    assert proved_since(lossy, certificate(block="exact")).rows[0].lossless == "lossy"


def test_what_is_expected_stands_with_its_intervals():
    one, other = contender("block"), contender("rrs")
    found = Expected(Estimate(0.6, 0.5, 0.7), None, Estimate(2.4, 2.3, 2.5), 4000)
    first, second = annotated(one, other, expected={one.configuration: found})
    assert (first.acceptance, first.acceptance_low, first.acceptance_high) == (0.6, 0.5, 0.7)
    assert (first.acceptance_gain, first.tokens_per_forward_high, first.text_positions) == (None, 2.5, 4000)
    assert first.estimate("acceptance") == found.acceptance
    assert second.acceptance is second.text_positions is None


def test_another_warp_than_plain_decodings_is_labelled_whatever_is_certified():
    bent, exact = contender("block", warp=Sampling(0.9)), contender("rrs", warp=Sampling(1.0))
    first, second = annotated(bent, exact, certificate=certificate(block="exact", rrs="exact"))
    assert first.lossless == "lossy"
    assert "temperature=0.9" in first.lossy
    assert (second.lossless, second.lossy) == ("exact", None)


@pytest.mark.parametrize("change", [{"tampered_rounds": 1}, {"excess_chance": 1e-12}])
def test_what_the_logged_rounds_give_away_is_labelled(change):
    one = contender("rrs")
    seen = {one.configuration: dataclasses.replace(OPTIMUM, **change)}
    (row,) = annotated(one, optima=seen, certificate=certificate(rrs="exact"))
    assert row.lossless == "lossy"
    assert row.lossy


def test_optimum_ranks_and_costs_stand_in_the_rows_they_belong_to():
    tree, race = contender("rrs"), contender("race_tree")
    ranks = {(PACKAGE, 1.0): Ranks([0.5, 0.25, 0.125], 0.5, 1.75)}
    plain, first, second = annotated(PLAIN, tree, race, optima={tree.configuration: OPTIMUM}, ranks=ranks)
    assert (first.optimal_acceptance, first.gap_to_optimum, first.nodes) == (0.7, 0.08, 15)
    assert first.race_ceiling is None
    assert (second.optimal_acceptance, second.race_acceptance, second.rank_entropy) == (None, 0.5, 1.75)
    levels = build("race_tree", identity(8)).shape.levels
    assert second.nodes == sum(map(sum, levels[:5]))
    assert second.race_ceiling == pytest.approx((3 + torch.log2(torch.tensor(second.nodes + 1.0)).item()) / 1.75)
    assert first.speedup_by_costs == pytest.approx(2.0 / (5 * 0.1 + 1.0))
    assert plain.speedup_by_costs is None
    assert all(getattr(plain, name) is None for name in dataclasses.asdict(OPTIMUM))
