"""The benchmark of the verifiers: what it reports, on a small vocabulary."""

import json

import pytest
import torch

from eval.bench import verifiers
from eval.bench.verifiers import main, measure, samplers


def test_every_sampler_that_needs_no_more_than_a_vocabulary():
    assert {"standard", "exact_match", "block", "rrs", "rrs_wor", "kseq", "greedy", "traversal"} <= set(samplers(50))


def test_reports_every_sampler():
    threads = torch.get_num_threads()
    result = measure((300,), rows=3, rounds=3, draws=2)
    assert torch.get_num_threads() == threads
    table = result["vocabularies"]["300"]
    assert set(table) == set(samplers(300))
    for row in table.values():
        assert row["milliseconds"] > 0
        assert row["per_floor"] == row["milliseconds"] / row["floor_milliseconds"]
        assert 0 <= row["accepted"] <= row["nodes"]
    assert (table["block"]["nodes"], table["rrs"]["nodes"]) == (5, 15)
    with pytest.raises(ValueError, match="at least 3"):
        measure(rounds=2)


def test_writes_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(verifiers.measure, "__defaults__", ((200,), 1, 3, "cpu", 1, 0))
    path = tmp_path / "deep" / "verify.json"
    assert main([str(path)]) == 0
    assert set(json.loads(path.read_text())["vocabularies"]) == {"200"}
    assert "traversal" in capsys.readouterr().out
