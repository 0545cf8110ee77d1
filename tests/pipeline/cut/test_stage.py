"""The stage cut on a toy: what it writes is a drafter of its target, what it says was measured, a second training needs no teacher."""

import json
import re
import shutil

import pytest
import torch
from rich.console import Console
from transformers import LlamaForCausalLM

from drafters.models.pair import load_pair
from pipeline.config import hydra_config
from pipeline.config.settings import pair_of
from pipeline.cut import teacher
from pipeline.errors import ConfigError
from pipeline.runner.stage import Context
from pipeline.stages.cut import STAGE

SMALL = [
    "stage=cut", "pair=local", "corpus=pycode", "suite=pycode", "device=cpu", "dtype=fp32", "cut.own_text=false",
    "cut.window=24", "cut.held_out=0.4", "cut.rows=20", "cut.negatives=8", "cut.batch=200", "cut.steps=6", "cut.every=3",
    "cut.check_tokens=150",
]  # fmt: skip


@pytest.fixture(scope="module")
def settings(target_folder, text):
    return [*SMALL, f"pair.target={target_folder}", f"cut.more_text=[{text}]"]


def run(settings, out, *changes):
    cfg = hydra_config.load([*settings, *changes])
    STAGE.check(cfg)
    out.mkdir(parents=True, exist_ok=True)
    console = Console(record=True, width=200)
    STAGE.run(Context(cfg, {}, out, console))
    STAGE.show(out, {}, console)
    return json.loads((out / "cut.json").read_text()), console.export_text(), cfg


@pytest.fixture(scope="module")
def made(settings, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "cut" / "one"
    return out, *run(settings, out)


def test_the_drafter_is_one_of_its_target(target_folder, made):
    out, report, said, _ = made
    pair = load_pair(target=target_folder, drafter=out / "drafter", device="cpu")
    assert pair.vocab is None  # one vocabulary
    assert not pair.foreign
    assert pair.drafter.config.num_hidden_layers == 2
    assert torch.equal(pair.drafter.get_input_embeddings().weight, pair.target.get_input_embeddings().weight)
    assert f"pair.drafter={out / 'drafter'}" in said
    assert re.search(r"the target reads 1,492 tokens once: [\d.]+ kB, about [\d.]+ min", said)
    assert sorted(path.name for path in out.iterdir()) == ["cut.json", "drafter"]
    assert report["layers"] == [0, 1]
    assert [row["step"] for row in report["history"]] == [0, 3, 6]
    assert report["tokens_seen"] == report["history"][-1]["tokens"] > 0
    assert report["before"]["acceptance"]["mean"] > 0.98  # the toy's last two layers write nothing


def test_a_borrowing_drafter_lacks_what_its_target_has(target_folder, settings, made, tmp_path):
    model = LlamaForCausalLM.from_pretrained(target_folder).to(torch.bfloat16)
    model.resize_token_embeddings(32_768, mean_resizing=False)  # an embedding below a megabyte is not worth it
    model.save_pretrained(tmp_path / "target")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(target_folder / name, tmp_path / "target" / name)
    out = tmp_path / "cut" / "lent"
    run(settings, out, f"pair.target={tmp_path / 'target'}", "cut.borrow=true", "cut.steps=1")
    lent = json.loads((out / "drafter" / "borrowed.json").read_text())
    assert lent["from"]["id"] == "target"
    assert "model.embed_tokens.weight" in lent["tensors"]
    pair = load_pair(target=tmp_path / "target", drafter=out / "drafter", device="cpu")
    assert torch.equal(pair.drafter.get_input_embeddings().weight, pair.target.get_input_embeddings().weight)


def test_another_training_reads_the_cache_and_goes_on_from_a_drafter(settings, made, tmp_path, monkeypatch):
    out, report, _, _ = made
    monkeypatch.setattr(teacher, "_shard", lambda *given: pytest.fail("the target read it before"))
    again, said, _ = run(settings, out.parent / "two", f"cut.start={out / 'drafter'}", "cut.optimizer=adam")
    assert again["before"]["acceptance"] == pytest.approx(report["after"]["acceptance"], abs=1e-6)
    assert "the target reads" not in said
    assert re.search(r"trained on [\d,]+ tokens, its [\d,]+ tokens of text [\d.]+ times, in \d+ s; 6 steps", said)
    with pytest.raises(
        ConfigError, match=r"a drafter of 1 layers of this target, .* got a llama of 2 layers, width \d+$"
    ):
        run(settings, out.parent / "three", f"cut.start={out / 'drafter'}", "cut.count=1")


def test_no_drafter_is_needed_to_make_one(settings):
    cfg = hydra_config.load(settings)
    assert pair_of(cfg)["drafter"] == cfg.pair.target
    assert STAGE.inputs(hydra_config.load([*settings, "cut.own_text=true"])) == {"generate": "generate"}
    text = hydra_config.load(["stage=generate", *settings[1:]])  # of more of it, for cut.more_text
    assert pair_of(text)["drafter"] == text.pair.target
    other = hydra_config.load(["stage=count", *settings[1:]])
    assert other.pair._get_node("drafter")._is_missing()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("cut.optimizer=sgd", "choose one of: muon, adam"),
        ("cut.every=0", "cut.every=0: expected a whole number from 1"),
        ("cut.minutes=0", "cut.minutes=0.0: expected a number above 0"),
        ("cut.held_out=1.0", "expected a share above 0 and below 1"),
        ("cut.more_text=[]", r"cut.more_text=\[DIR\]"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_loaded(settings, change, said):
    with pytest.raises(ConfigError, match=said):
        STAGE.check(hydra_config.load([*settings, change]))


def test_text_without_unseen_prompts_is_refused_before_the_target_reads(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher, "fill", lambda *given: pytest.fail("the target reads first"))
    with pytest.raises(ConfigError, match=r"cut\.held_out=1e-06 leaves none for calibrate, test"):
        run(settings, tmp_path, "cut.held_out=0.000001")
