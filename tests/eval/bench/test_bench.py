"""make bench: every benchmark runs, a failing or silent one is an error, and figures are what they are called."""

import json
import subprocess
import sys

import pytest

from eval.bench import batch, cost_model, steps
from eval.bench import run_all as bench
from eval.bench.output import BenchError
from eval.costs.forwards import Costs, Timing


def test_unknown_names():
    with pytest.raises(BenchError, match=r"no benchmark 'egnine'.*did you mean engine\?"):
        bench.chosen(["egnine"])
    assert bench.chosen(["stop", "counting"]) == ["counting", "stop"]
    assert bench.chosen([]) == list(bench.BENCHES)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit(3)", "ended with code 3"),
        ("pass", "wrote no"),
        ("import pathlib; pathlib.Path('old.json').exists()", "wrote no"),
    ],
)
def test_a_failing_or_silent_benchmark_is_an_error(code, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "BENCHES", {"old": "nothing"})
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    (tmp_path / "old.json").write_text("{}")  # of an earlier run: no excuse
    real = subprocess.run
    monkeypatch.setattr(
        bench.subprocess, "run", lambda command, **options: real([sys.executable, "-c", code], **options)
    )
    assert bench.main(bench.BenchOptions()) == 1
    assert said in capsys.readouterr().out


def test_steps_compare_time_with_bytes():
    found = steps.measure(steps.StepOptions(vocabularies=[4000], shares=[0.5, 0.25], rounds=3, compile=False))
    table = found["vocabularies"]["4000"]
    layers = 2 * (4 * 1024**2 + 3 * 1024 * 2816 + 2 * 1024) + 1024
    assert table["bytes"] == 4 * (layers + 4000 * 1024)
    assert table["pruned"]["0.25"]["bytes_saved"] == pytest.approx(3000 * 1024 / (layers + 4000 * 1024))
    json.dumps(found, allow_nan=False)


@pytest.mark.slow("embedded pair: 2 s of timings")
def test_batches_report_every_size():
    found = batch.measure(batch.BatchOptions(sizes=[1, 2], tokens=4, rounds=3))
    assert found["sizes"]["1"]["speculative"]["vs_one"] == found["sizes"]["1"]["ceiling"] == 1.0
    assert found["kv_bytes_per_token"]["theory"] == found["kv_bytes_per_token"]["allocated"]


def test_the_engines_own_cost_is_found_again():
    timing = lambda seconds: Timing(seconds, seconds, seconds, 3)  # noqa: E731
    costs, slow = (
        Costs({n: timing(pace * (10.0 + n)) for n in range(1, 8)}, {"drafter": timing(pace * 2.0)}, 8)
        for pace in (1.0, 1.5)
    )
    runs = [
        cost_model.Run(k, 5, 5 * k, tokens=9, seconds=5 * (11.0 + k + 2.0 * k + 0.7 + 0.3 * k), costs=costs)
        for k in (0, 2, 5)
    ]
    assert cost_model.fit(runs) == pytest.approx((0.7, 0.3))
    assert cost_model.round_seconds(2.0, costs, (0.7, 0.3)) == pytest.approx(13.0 + 4.0 + 1.3)
    # The same rounds while the machine is slower: what forwards cost then is what counts.
    later = [
        cost_model.Run(k, 5, 5 * k, tokens=9, seconds=5 * (1.5 * (11.0 + 3.0 * k) + 0.7 + 0.3 * k), costs=slow)
        for k in (0, 2, 5)
    ]
    assert [run.error((0.7, 0.3)) for run in later] == pytest.approx([0.0] * 3)
    assert cost_model.fit(runs + later) == pytest.approx((0.7, 0.3))


@pytest.mark.slow("embedded pair: 6 s of timings")
def test_costs_are_predicted_and_measured():
    options = cost_model.CostModelOptions(prompts=2, tokens=6, lengths=[2], rounds=3, shapes=False)
    found = cost_model.measure(options)
    assert set(found["lengths"]) == {"0", "2"}
    assert found["worst_error"] == max(abs(row["error"]) for row in found["lengths"].values())
