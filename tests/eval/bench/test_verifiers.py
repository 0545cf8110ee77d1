"""The benchmark of the verifiers: what it reports, on a small vocabulary."""

import json

import pytest

from eval.bench.verifiers import VerifierOptions, main, measure, samplers
from eval.costs.timing import TimingError


def test_every_sampler_that_needs_no_more_than_a_vocabulary():
    assert {"standard", "exact_match", "block", "rrs", "rrs_wor", "kseq", "greedy", "traversal"} <= set(samplers(50))


def test_reports_every_sampler():
    result = measure(VerifierOptions([300], rows=3, rounds=3, draws=2))
    table = result["vocabularies"]["300"]
    assert set(table) == set(samplers(300))
    for row in table.values():
        assert row["milliseconds"] > 0
        assert row["per_floor"] == row["milliseconds"] / row["floor_milliseconds"]
        assert 0 <= row["accepted"] <= row["nodes"]
    assert (table["block"]["nodes"], table["rrs"]["nodes"]) == (5, 15)
    with pytest.raises(TimingError, match="at least 3"):
        measure(VerifierOptions([300], rounds=2))


def test_writes_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(VerifierOptions([200], rounds=3, draws=1)) == 0
    written = json.loads((tmp_path / "runs" / "bench" / "verify.json").read_text())
    assert set(written["vocabularies"]) == {"200"}
    assert "traversal" in capsys.readouterr().out
