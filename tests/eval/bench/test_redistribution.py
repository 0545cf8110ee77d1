"""The benchmark of redistribution at toy sizes: keys, ratios and growth are what they are called."""

import pytest

from eval.bench import redistribution as bench
from eval.costs.timing import TimingError


def test_small_vocabularies():
    found = bench.measure(bench.RedistributionOptions([256, 512], rounds=3, batch_bytes=2**18))
    assert set(found["vocabularies"]) == {"256", "512"}
    for row in found["vocabularies"].values():
        for form in ("rdk_first_order", "rdk_sparse", "rdk_exact", "memcpy"):
            assert row[f"{form}_ns_per_token"] > 0
        ratio = row["rdk_first_order_ns_per_token"] / row["memcpy_ns_per_token"]
        assert row["rdk_first_order_ratio"] == pytest.approx(ratio)
    with pytest.raises(TimingError, match="at least 3"):
        bench.measure(bench.RedistributionOptions([256], rounds=2, batch_bytes=2**12))


def test_growth_is_the_exponent():
    table = {str(size): {"x_ns_per_token": 3.0 * size, "y_ns_per_token": 2.0} for size in (100, 1000, 10000)}
    assert bench.growth(table, "x") == pytest.approx(2.0)
    assert bench.growth(table, "y") == pytest.approx(1.0)
    assert bench.growth({"100": {"x_ns_per_token": 1.0}}, "x") is None


def test_an_exact_matrix_that_does_not_fit_is_left_out(monkeypatch):
    monkeypatch.setattr(bench, "EXACT_BYTES", 1000)
    found = bench.measure(bench.RedistributionOptions([256, 512], rounds=3, batch_bytes=2**16))
    assert all(row["rdk_exact_ns_per_token"] is None for row in found["vocabularies"].values())
    assert found["growth"]["rdk_exact"] is None
