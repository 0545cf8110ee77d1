"""The benchmark of the bounds: what it reports, on a small vocabulary."""

import json
from pathlib import Path

import pytest

from eval.bench import bounds
from eval.bench.bounds import LIMITED, BoundsOptions, main, measure
from eval.costs.timing import TimingError


def test_reports_every_bound() -> None:
    result = measure(BoundsOptions(vocabulary=2000, rounds=3))
    assert set(result["milliseconds"]) == set(result["per_sort"]) == set(result["values"]) > set(LIMITED)
    assert all(value > 0 for value in result["milliseconds"].values())
    values = result["values"]
    assert values["rrs_with_replacement_4"] < values["kseq_4"] < values["with_replacement_4"]
    assert values["with_replacement_4"] < values["without_replacement_4"] < 1
    with pytest.raises(TimingError, match="at least 3"):
        measure(BoundsOptions(vocabulary=50, rounds=2))


@pytest.mark.parametrize(("limit", "status"), [(1e9, 0), (0.0, 1)])
def test_fails_above_the_limit(limit: float, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "LIMIT_MS", limit)
    monkeypatch.chdir(tmp_path)
    assert main(BoundsOptions(vocabulary=500, rounds=3)) == status
    written = json.loads((tmp_path / "runs" / "bench" / "bounds.json").read_text())
    assert written["vocabulary"] == 500
    assert set(written["within_limit"].values()) == {status == 0}
