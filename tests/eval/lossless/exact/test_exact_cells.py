"""A share of the gate's exact cells, and that the catalog is covered; `make lossless` runs them all."""

import pytest

from drafters.samplers.catalog import CATALOG
from eval.lossless.exact.exact_cells import PLAIN, SHAPES, TOLERANCE, WARPS, cells
from eval.lossless.pathwise import path_cells
from eval.lossless.toys.toy_pairs import TOYS
from eval.lossless.toys.toy_policies import STOPS


def test_enough_cells_of_every_kind():
    found = [cell for name in CATALOG for cell in cells(name)]
    assert len(found) >= 500
    assert {cell.toy for cell in found} == set(TOYS)
    assert {cell.stop for cell in found} == set(STOPS)
    assert {cell.warp for cell in found} == {PLAIN, *WARPS}
    assert set(SHAPES) <= {cell.branching for cell in found}


@pytest.mark.parametrize("name", CATALOG)
def test_every_sampler_is_covered_by_one_proof(name):
    assert bool(list(cells(name))) != bool(list(path_cells(name)))


@pytest.mark.parametrize("name", CATALOG)
def test_exact_law(name):
    for cell in list(cells(name))[::8]:
        assert cell.error() <= TOLERANCE, cell
