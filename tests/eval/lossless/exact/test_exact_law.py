"""The exact law itself, on cases that the gate's cells do not have (tests/eval/lossless runs a share of those)."""

import pytest

from drafters.engine.limits import Limits
from drafters.probs import Sampling, warp
from drafters.samplers.catalog import build
from drafters.stop.policies.static import Static
from eval.lossless.exact.exact_law import exact_law, largest_error, reference_law, total_variation
from eval.lossless.toys.table_models import full_pair

TOLERANCE = 1e-12
FULL = full_pair(3, 0, eos=(2,))


@pytest.mark.parametrize("name", ["standard", "tli"])
def test_five_tokens_across_three_rounds(name):
    tables = full_pair(3, 30, eos=(2,))
    limits = Limits(5)
    law = exact_law(build(name, tables.vocab), lambda: Static(1), tables, [1], limits)
    assert largest_error(law, reference_law(tables, [1], limits)) <= TOLERANCE


def test_ignored_eos():
    tables = full_pair(3, 0)  # reference: no EOS at all
    limits = Limits(3, ignore_eos=True)
    law = exact_law(build("standard", tables.vocab), lambda: Static(2), FULL, [0], limits)
    # Nothing is drafted behind an EOS, ignored or not; what follows it is decoded all the same.
    assert largest_error(law, reference_law(tables, [0], limits)) <= TOLERANCE


def test_stop_strings_cut_the_law_of_plain_decoding():
    tables = full_pair(3, 40)
    limits = Limits(3, stop_strings=("01",), text=lambda ids: "".join(map(str, ids)))
    law = exact_law(build("standard", tables.vocab), lambda: Static(2), tables, [0], limits)
    expected: dict[tuple[int, ...], float] = {}
    for tokens, weight in reference_law(tables, [0], Limits(3)).items():
        cut = tokens[:2] if tokens[:2] == (0, 1) else tokens
        expected[cut] = expected.get(cut, 0.0) + weight
    assert largest_error(law, expected) <= TOLERANCE


def test_small_batches_give_the_same_law():
    tables, limits = FULL, Limits(3)
    sampler = build("standard", tables.vocab)
    whole = exact_law(sampler, lambda: Static(2), tables, [0], limits)
    assert largest_error(whole, exact_law(sampler, lambda: Static(2), tables, [0], limits, rows=7)) <= 1e-15


def test_reference_law_is_the_chain_rule():
    tables, limits = full_pair(3, 50, eos=(2,)), Limits(2, Sampling(0.7))
    law = reference_law(tables, [1], limits)
    first = warp(tables.target.after([1]), limits.sampling)
    second = warp(tables.target.after([1, 0]), limits.sampling)
    assert law[(0, 1)] == pytest.approx(float(first[0] * second[1]), rel=1e-15)
    assert law[(2,)] == pytest.approx(float(first[2]), rel=1e-15)
    assert len(law) == 7


def test_distances():
    one, other = {(0,): 0.5, (1,): 0.5}, {(0,): 0.25, (2,): 0.75}
    assert total_variation(one, other) == 0.75
    assert largest_error(one, other) == 0.75
