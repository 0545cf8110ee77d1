"""Stages affinity, tail, distill and sweep on a real pair: what they measure is so, a kill costs nothing, the package holds it."""

import dataclasses
import json

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

import drafters
from drafters.models.pair import load_pair
from drafters.models.prune import save_pruned
from drafters.samplers.proposal.rdk import RDK
from drafters.samplers.proposal.tli import TLI
from drafters.vocab.alignment import identity, restrict
from eval.report.sources import further
from pipeline.config import hydra_config
from pipeline.config.text_settings import source_of
from pipeline.errors import ConfigError
from pipeline.fit import trainer
from pipeline.fit.best import Best
from pipeline.fit.text_and_models import open_reading
from pipeline.runner.stage import Context
from pipeline.stages import affinity, distill, package, sweep, tail
from tests.data import DATA, needs

TARGET, DRAFTER = DATA / "models" / "tinystories-bit-1M", DATA / "models" / "stories260K"
pytestmark = needs("models")
V = 512


@pytest.fixture(scope="module")
def pair():
    return load_pair(target=TARGET, drafter=DRAFTER, device="cpu")


@pytest.fixture(scope="module")
def inputs(pair, tmp_path_factory):
    """What prune and count leave: every second token kept, counts falling with the id."""
    folder, counted = tmp_path_factory.mktemp("prune"), tmp_path_factory.mktemp("count")
    kept = torch.cat([torch.arange(0, V, 2), torch.tensor([1])]).unique()
    vocab = restrict(identity(V), kept)
    drafter = load_pair(target=TARGET, drafter=DRAFTER, device="cpu").drafter
    save_pruned(drafter, kept, folder / "model")
    tensors = {"kept": kept, "to_target": vocab.to_target, "to_drafter": vocab.to_drafter}
    save_file({name: part.clone() for name, part in tensors.items()}, folder / "vocab.safetensors")
    (folder / "report.json").write_text(json.dumps({"coverage": 0.75}))
    save_file({"counts": torch.arange(V, 0, -1)}, counted / "counts.safetensors")
    return {"prune": folder, "count": counted}


@pytest.fixture(scope="module")
def cfg(pair, tmp_path_factory):
    """The target's own text as a corpus: what it was trained on it says best."""
    from drafters.engine.decode import autoregressive
    from drafters.engine.limits import Limits
    from drafters.engine.transformers_pair import TransformersPair
    from drafters.rng.coins import KeyedCoins

    one = TransformersPair(pair.target, pair.target, ())
    said = autoregressive(one, [torch.tensor([1])] * 48, KeyedCoins(0, torch.arange(48)), Limits(100)).tokens
    texts = tmp_path_factory.mktemp("text") / "said.jsonl"
    lines = [json.dumps({"text": pair.target_tokenizer.decode(ids, skip_special_tokens=True)}) for ids in said]
    texts.write_text("\n".join(lines))
    return [
        "stage=tail", "pair=local", f"pair.target={TARGET}", f"pair.drafter={DRAFTER}", "corpus=local", f"corpus.path={texts}",
        "device=cpu", "dtype=fp32",
        *(f"{name}.tokens=2000" for name in ("tail", "affinity", "sweep", "distill")),
        *(f"{name}.window=64" for name in ("tail", "affinity", "sweep", "distill")),
        "tail.ranks=[4,8,16]", "tail.covers=[0.5,1.0]", "tail.max_head_share=1.0", "affinity.min_documents=2",
    ]  # fmt: skip


def run(stage, cfg, inputs, out, *changes):
    """The stage's output folder, what it said, and its configuration."""
    out.mkdir(exist_ok=True)
    console = Console(record=True, width=200)
    settings = hydra_config.load([*cfg, *changes])
    stage.STAGE.check(settings)
    stage.run(Context(settings, inputs, out, console))
    return console.export_text(), settings


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def tailed(cfg, inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("tail")
    said, settings = run(tail, cfg, inputs, out, "tail.steps=12")
    return out, said, settings


def test_the_tail_wins_back_acceptance_and_says_what_it_costs(tailed):
    out, said, _ = tailed
    report = json.loads((out / "tail.json").read_text())
    found = {name: row["mean"] for name, row in report["acceptance"].items()}
    assert found["tli"] + 0.05 < found["tail_free"] <= found["full"] + 0.02
    assert all(row["low"] < row["mean"] < row["high"] for row in report["acceptance"].values())
    ranks = report["ranks"]
    assert [(row["rank"], row["tokens"]) for row in ranks] == [
        (4, 255),
        (8, 255),
        (16, 255),
        (4, 128),
        (8, 128),
        (16, 128),
    ]
    for same in (ranks[:3], ranks[3:]):
        assert [row["acceptance"] for row in same] == sorted(row["acceptance"] for row in same)
    assert all(part["head_share"] < whole["head_share"] for part, whole in zip(ranks[3:], ranks[:3], strict=True))
    best = max(ranks, key=lambda row: row["tokens_per_weight"])
    assert (report["rank"], report["tokens"]) == (best["rank"], best["tokens"])
    assert report["head_share_short"] == pytest.approx(257 / 512)
    assert 1 < report["spectrum"]["stable_rank"] < 64
    assert f"tail of rank {report['rank']} for {report['tokens']} tokens" in said


@pytest.mark.slow("three trainings, 3 to 5 s")
def test_a_killed_training_goes_on_to_the_same_bytes(tailed, cfg, inputs, tmp_path, monkeypatch):
    """Killed twice between two checkpoints: the weights are those of a run in one go."""
    settings = ["tail.steps=12", "tail.rank=8"]
    run(tail, cfg, inputs, tmp_path / "whole", *settings)
    clean, real = trainer.Fitting.training_step, trainer.ModelCheckpoint
    monkeypatch.setattr(trainer, "ModelCheckpoint", lambda **more: real(**{**more, "every_n_train_steps": 3}))
    for last in (5, 10):

        def killed(self, batch, index, last=last):
            if self.global_step == last:
                raise KeyboardInterrupt
            return clean(self, batch, index)

        monkeypatch.setattr(trainer.Fitting, "training_step", killed)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run(tail, cfg, inputs, tmp_path / "parts", *settings)
        assert (tmp_path / "parts" / ".training" / "last.ckpt").exists()
    monkeypatch.setattr(trainer.Fitting, "training_step", clean)
    run(tail, cfg, inputs, tmp_path / "parts", *settings)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_the_prior_is_measured_as_it_will_be_drawn(cfg, inputs, tmp_path):
    said, settings = run(affinity, cfg, inputs, tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["prior"] is not None
    assert report["gain"] > 0
    assert "on unseen text" in said
    reading = open_reading(source_of(Context(settings, inputs, tmp_path), "affinity"), settings.affinity)
    prior = affinity.AffinityPrior(**load_file(tmp_path / "out" / "affinity.safetensors"))
    sums = torch.zeros(3, dtype=torch.float64)
    with torch.inference_mode():
        for _, ids in reading.texts["test"]:  # again, from the models
            p, q = (model(input_ids=ids[None]).logits[0].softmax(-1) for model in (reading.target, reading.drafter))
            both = (TLI(reading.vocab).lift(q), RDK(reading.vocab, prior).lift(q))
            sums += torch.tensor([len(ids), *(float(torch.minimum(p, law).sum()) for law in both)])
    assert report["acceptance_tli"] == pytest.approx(float(sums[1] / sums[0]), abs=1e-5)
    assert report["acceptance_rdk"] == pytest.approx(float(sums[2] / sums[0]), abs=1e-5)
    assert report["gain_low"] < report["gain"] < report["gain_high"]


@pytest.mark.slow("the stage twice, 3 s")
def test_a_killed_affinity_goes_on_to_the_same_bytes(cfg, inputs, tmp_path, monkeypatch):
    run(affinity, cfg, inputs, tmp_path / "whole")
    clean = affinity.calibrated
    monkeypatch.setattr(affinity, "calibrated", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
    clean_step = affinity.ShareFit.step
    monkeypatch.setattr(affinity.ShareFit, "step", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(affinity, cfg, inputs, tmp_path / "parts")
    assert (tmp_path / "parts" / ".estimated.safetensors").exists()
    monkeypatch.setattr(affinity, "_estimated", None)  # is not asked again
    monkeypatch.setattr(affinity.ShareFit, "step", clean_step)
    monkeypatch.setattr(affinity, "calibrated", clean)
    run(affinity, cfg, inputs, tmp_path / "parts")
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_at_temperature_zero_there_is_no_prior(cfg, inputs, tmp_path):
    said, _ = run(affinity, cfg, inputs, tmp_path / "out", "package.temperature=0.0")
    assert "no prior: at temperature 0" in said
    assert not (tmp_path / "out" / "affinity.safetensors").exists()


def test_the_package_drafts_with_the_tail(pair, tailed, inputs, tmp_path):
    """Through the user's call: greedy output is the target's own, and sampled drafts are accepted more often than TLI's."""
    from drafters.io.manifest import write_manifest

    out, _, settings = tailed
    (tmp_path / "package").mkdir()
    given = {"prune": inputs["prune"], "drafter": out}
    package.run(Context(settings, given, tmp_path / "package", Console(quiet=True)))
    write_manifest(tmp_path / "package", kind="package", key="0", config={}, inputs={})
    loaded = drafters.load(tmp_path / "package", device="cpu", dtype="fp32")
    assert loaded.tailed(input_ids=torch.tensor([[1, 5]])).logits.shape == (1, 2, V)
    prompts = [torch.tensor([1, ids]) for ids in (403, 407, 410, 365)]
    plain = pair.target.generate(prompts[0][None], max_new_tokens=24, do_sample=False)[0, 2:]
    greedy = drafters.generate(pair.target, loaded, prompts[:1], sampler="tail", temperature=0.0, max_new_tokens=24)
    assert greedy.tokens[0].tolist() == plain.tolist()
    rates = {}
    for name in ("tail", "tli"):
        found = drafters.generate(pair.target, loaded, prompts * 4, sampler=name, max_new_tokens=60, seed=1)
        rates[name] = float(found.accepted.sum() / found.drafted.sum())
    assert rates["tail"] > rates["tli"] + 0.05
    bare = dataclasses.replace(loaded, tail=None, tailed=None)
    with pytest.raises(ValueError, match="sampler 'tail' needs a drafter whose head has a tail: run stage=tail"):
        drafters.generate(pair.target, bare, prompts[:1], sampler="tail", max_new_tokens=2)


@pytest.mark.slow("prunes, tails and trainings of every size, 3 s")
def test_the_sweep_orders_what_must_be_ordered(cfg, inputs, tmp_path):
    changes = [
        "stage=sweep", "sweep.fractions=[1.0,0.5,0.25]", "sweep.samplings=[[1.0,0.0,1.0],[0.7,0.0,0.9]]", "sweep.stride=2",
        "sweep.tails=[[16,1.0],[16,0.5]]", "sweep.trained=[16,1.0]",
        "sweep.steps=6", "sweep.heal_steps=6", "sweep.cost_runs=2", "sweep.kernel_contexts=100",
    ]  # fmt: skip
    run(sweep, cfg[1:], inputs, tmp_path / "out", *changes)
    found = json.loads((tmp_path / "out" / "curve.json").read_text())
    rows = {(row["temperature"], row["kept"], row["method"]): row for row in found["rows"]}
    for heat in (1.0, 0.7):
        full = rows[heat, 512, "full"]["acceptance"]
        for kept in (256, 128):
            acceptance = {method: row["acceptance"] for (t, d, method), row in rows.items() if (t, d) == (heat, kept)}
            trained = {"tail_trained", "tail_distilled"}
            free = {"tail_free_16", "tail_free_16_top50"}
            assert set(acceptance) == {"oracle", "tli", "rdk", "rdk_exact"} | free | trained
            assert acceptance["tail_free_16"] != acceptance["tail_trained"] != acceptance["tail_distilled"]
            assert acceptance["oracle"] >= max(acceptance["tli"], acceptance["rdk"], acceptance["rdk_exact"])
            assert acceptance["rdk"] >= acceptance["tli"] - 0.01
            for name in free:  # of the same rank, either may be the better one
                assert acceptance["tli"] < acceptance[name] <= full + 0.02
    assert rows[1.0, 128, "rdk"]["over_tli"]["gain"] > 0
    assert len(found["knees"]) == 2
    assert not list((tmp_path / "out").glob(".*"))  # no checkpoints left
    (tmp_path / "runs" / "sweep").mkdir(parents=True)
    (tmp_path / "out").rename(tmp_path / "runs" / "sweep" / "key")
    page = further(tmp_path / "runs", None).curve  # what `make report` draws
    assert page is not None
    lines = {"full", "oracle", "tli", "rdk", "tail, training-free", "tail, trained"}  # as many as can be told apart
    assert {point["variant"] for point in page["points"]} == lines
    drawn = {
        (point["temperature"], point["kept"], point["variant"]): point["acceptance_rate"] for point in page["points"]
    }
    assert len(drawn) == len(page["points"]) == 2 * (1 + 2 * 5)
    assert drawn[1.0, 128, "tail, trained"] == rows[1.0, 128, "tail_distilled"]["acceptance"]
    fastest = max(("tail_free_16", "tail_free_16_top50"), key=lambda name: rows[1.0, 128, name]["tokens_per_second"])
    assert drawn[1.0, 128, "tail, training-free"] == rows[1.0, 128, fastest]["acceptance"]
    assert page["knee"]["kept"] == found["knees"][0]["kept"]
    console = Console(record=True, width=140)
    sweep.STAGE.show(tmp_path / "runs" / "sweep" / "key", {}, console)
    assert "prune.size=" in console.export_text()


def test_a_curve_of_suites_is_judged_on_the_targets_answers_alone(cfg, inputs, tmp_path):
    rows = [{"question": f"Tom has {number} apples and eats one. How many are left?"} for number in range(8)]
    (tmp_path / "gsm8k.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = [
        "stage=sweep", "sweep.fractions=[1.0,0.25]", "sweep.samplings=[[1.0,0.0,1.0]]", "sweep.tails=[[16,1.0]]",
        "sweep.trained=[16,1.0]", "sweep.cost_runs=1", "sweep.kernel_contexts=10", "sweep.kernel_bytes=0", "sweep.stride=1",
        f"+sweep.suites.gsm8k={tmp_path / 'gsm8k.jsonl'}", "sweep.suite_prompts=6", "sweep.suite_tokens=12",
    ]  # fmt: skip
    _, settings = run(sweep, cfg[1:], inputs, tmp_path / "out", *changes)
    found = json.loads((tmp_path / "out" / "curve.json").read_text())["rows"]
    assert {row["text"] for row in found} == {"test", "gsm8k"}
    known = {(row["text"], row["kept"], row["method"]): row for row in found}
    for text in ("test", "gsm8k"):
        tail = known[text, 128, "tail_free_16"]
        assert known[text, 128, "tli"]["acceptance"] < known[text, 128, "oracle"]["acceptance"]
        behind = tail["acceptance"] - known[text, 512, "full"]["acceptance"]
        assert tail["over_full"]["gain"] == pytest.approx(behind)
        assert tail["over_full"]["low"] <= behind <= tail["over_full"]["high"]
    assert known["test", 128, "tli"]["acceptance"] != known["gsm8k", 128, "tli"]["acceptance"]
    assert not list((tmp_path / "out").glob(".*"))  # no answers left
    assert sweep.STAGE.external(settings)["sweep.suites.gsm8k"].endswith("gsm8k.jsonl")
    assert str(tmp_path) not in json.dumps(sweep.STAGE.config(settings))


HEAL = [
    "distill.source=corpus", "distill.tokens=6000", "distill.steps=24", "distill.every=6", "distill.rate=0.003", "distill.batch=2",
]  # fmt: skip


def test_healing_trains_head_and_norms_alone_and_keeps_the_best(cfg, inputs, tmp_path):
    said, settings = run(distill, cfg, inputs, tmp_path / "out", *HEAL)
    report = json.loads((tmp_path / "out" / "distill.json").read_text())
    found = {name: row["mean"] for name, row in report["acceptance"].items()}
    assert report["distilled"]
    assert found["after"] > found["before"]
    assert "healed: acceptance on unseen text" in said
    best = max(report["calibration"], key=lambda row: row["acceptance"])
    assert report["steps"] == best["step"] > 0
    before, after = (
        load_file(folder / "model" / "model.safetensors") for folder in (inputs["prune"], tmp_path / "out")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "norm" in name or name == "lm_head.weight"}
    # The next stages go on from it.
    settings.distill.enabled = True
    assert tail.STAGE.inputs(settings)["drafter"] == "distill"


@pytest.mark.slow("the stage twice, 3 s")
def test_a_training_without_gain_is_stopped_and_changes_nothing(cfg, inputs, tmp_path, monkeypatch):
    series = iter([0.5, 0.4, 0.4, 0.4, 0.9])
    monkeypatch.setattr(distill, "Best", lambda measure, *rest: Best(lambda: {"acceptance": next(series)}, *rest))
    said, _ = run(distill, cfg, inputs, tmp_path / "out", *HEAL)
    report = json.loads((tmp_path / "out" / "distill.json").read_text())
    assert [row["step"] for row in report["calibration"]] == [0, 6, 12, 18]  # patience 3
    assert not report["distilled"]
    assert "no gain" in said
    assert files(tmp_path / "out" / "model") == files(inputs["prune"] / "model")


@pytest.mark.slow("three trainings, 3 to 5 s")
def test_a_killed_healing_goes_on_to_the_same_bytes(cfg, inputs, tmp_path, monkeypatch):
    run(distill, cfg, inputs, tmp_path / "whole", *HEAL)
    clean, real = trainer.Fitting.training_step, trainer.ModelCheckpoint
    monkeypatch.setattr(trainer, "ModelCheckpoint", lambda **more: real(**{**more, "every_n_train_steps": 3}))

    def killed(self, batch, index):
        if self.global_step == 14:
            raise KeyboardInterrupt
        return clean(self, batch, index)

    monkeypatch.setattr(trainer.Fitting, "training_step", killed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(distill, cfg, inputs, tmp_path / "parts", *HEAL)
    monkeypatch.setattr(trainer.Fitting, "training_step", clean)
    run(distill, cfg, inputs, tmp_path / "parts", *HEAL)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_healing_refuses_settings_that_cannot_work(cfg):
    with pytest.raises(ConfigError, match="patience from 1"):
        distill.STAGE.check(hydra_config.load([*cfg, "distill.patience=0"]))
