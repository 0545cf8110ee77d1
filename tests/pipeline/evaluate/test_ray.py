"""Evaluation by a crew: the records of a run alone, but for the seconds, for any number of workers, deaths included."""

import json
import shutil

import pytest

from pipeline.cluster import ray_workers
from pipeline.evaluate import cells as measuring
from tests.pipeline.ray_double import ActorRay
from tests.pipeline.stages.test_eval import place, run  # noqa: F401
from tests.tiers import slow_but

MORE = ("eval.samplers=[tli,race_tree]", "eval.temperatures=[0.0,1.0]", "seed=21")
ON_RAY = ("hardware=ray",)


def packaged(place, runs, *more):  # noqa: F811
    """What comes before, made without Ray, in a folder of its own; and the evaluation made alone."""
    alone, _ = run(place, *(more or MORE))
    shutil.copytree(place / "runs", runs, ignore=shutil.ignore_patterns("eval"))
    return alone


def untimed(out):
    lines = (out / "records.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": None} for line in lines]


@pytest.mark.parametrize(
    ("workers", "deaths"), slow_but((2, (1,)), [(1, ()), (2, (1,)), (4, (0, 3))], "two evaluations, 4 s")
)
def test_the_same_records(workers, deaths, place, monkeypatch, tmp_path):  # noqa: F811
    alone, where = packaged(place, tmp_path / "runs"), f"runs_dir={tmp_path / 'runs'}"
    ray = ActorRay(deaths)
    monkeypatch.setattr(ray_workers, "connect", lambda address: ray)
    shared, _ = run(place, *MORE, *ON_RAY, f"hardware.workers={workers}", where)
    assert ray.calls == 2 * 3  # repeats x prompts
    assert ray.made == workers + len(deaths)
    assert untimed(shared) == untimed(alone)
    assert not list(shared.glob(measuring.PARTS))


@pytest.mark.slow("two evaluations, 4 s")
def test_a_killed_driver_goes_on(place, monkeypatch, tmp_path):  # noqa: F811
    ray, where, real = ActorRay(), f"runs_dir={tmp_path / 'runs'}", ray_workers.results

    def cut(*arguments):
        for number, found in enumerate(real(*arguments)):
            if number == 2:
                raise KeyboardInterrupt
            yield found

    packaged(place, tmp_path / "runs")
    monkeypatch.setattr(ray_workers, "connect", lambda address: ray)
    monkeypatch.setattr(ray_workers, "results", cut)
    with pytest.raises(KeyboardInterrupt):
        run(place, *MORE, *ON_RAY, "hardware.workers=1", where)
    monkeypatch.setattr(ray_workers, "results", real)
    before = ray.calls
    out, _ = run(place, *MORE, *ON_RAY, "hardware.workers=1", where)
    assert ray.calls - before == 6 - 2
    cells = {(record["repeat"], record["prompt"]) for record in untimed(out)}
    assert len(cells) == 6
    assert len(untimed(out)) % 6 == 0


def test_prompts_that_are_kept_back_and_trees_that_are_left_out_are_so_on_every_worker(place, monkeypatch, tmp_path):  # noqa: F811
    """A worker holds all prompts and all samplers: it must be told which, not at which place of the driver's shorter lists."""
    suite = tmp_path / "suite.jsonl"
    suite.write_text("".join(json.dumps({"id": f"p{n}", "prompt": "abcabcab"[: 2 + n % 6]}) + "\n" for n in range(12)))
    more = (
        "eval.samplers=[tli,rrs,kseq]", "eval.temperatures=[1.0]", "eval.repeats=1", "eval.rows=few", "eval.law_rounds=0",
        f"suite.path={suite}", "seed=22", "eval.compare=false",
    )  # fmt: skip
    alone, where = packaged(place, tmp_path / "runs", *more), f"runs_dir={tmp_path / 'runs'}"
    monkeypatch.setattr(ray_workers, "connect", lambda address: ActorRay())
    shared, _ = run(place, *more, *ON_RAY, "hardware.workers=2", where)
    assert untimed(shared) == untimed(alone)
    assert {record["prompt"] for record in untimed(shared)} == {f"p{n}" for n in range(12) if n not in (2, 5, 8, 11)}
    report = json.loads((shared / "report.json").read_text())
    assert len({row["sampler"] for row in report["rows"]} & {"rrs", "kseq"}) == 1
    assert not [text for text in report["warnings"] if "too few" in text or "do not trust this row" in text]
    (choice,) = report["verdict"]
    assert {rated["prompts"] for rated in (choice, *choice["next"])} == {4}
