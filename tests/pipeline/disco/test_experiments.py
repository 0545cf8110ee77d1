"""The paper's settings compose without a network, and say what is missing."""

import pytest

from eval.suites.dataset_rows import DataError
from pipeline.config.hydra_config import load
from pipeline.runner.discovery import load_stage


@pytest.mark.parametrize("name", ["disco_mbpp", "disco_cnn_dm", "disco_alpaca"])
def test_the_settings_of_the_paper_compose(name):
    cfg = load(["stage=train-disco", f"experiment={name}", "device=cpu"])
    assert cfg.stage == "train-disco"
    assert (cfg.traces.prompts, cfg.traces.validation, cfg.traces.test) == ("suite", 80, 80)
    with pytest.raises(DataError, match=r"suite.revision=None: expected a commit"):  # before anything runs
        load_stage("traces")[0].check(cfg)
    cfg.suite.revision = "0" * 40
    for stage in ("traces", "train-disco"):
        load_stage(stage)[0].check(cfg)
    assert 0.0 in cfg.traces.temperatures
    assert cfg.suite.get("chat") is None


def test_the_demo_makes_a_small_classifier():
    cfg = load(["stage=eval", "experiment=demo"])
    assert cfg.train_disco.enabled
    assert cfg.traces.requests * cfg.traces.max_new_tokens * 2 < 2000


def test_a_real_pair_is_measured_with_settings_that_its_stages_take(tmp_path):
    text = tmp_path / "text.jsonl"
    text.write_text('{"text": "Once upon a time."}\n')
    pair = [
        "pair=local",
        "pair.target=a",
        "pair.drafter=b",
        f"corpus.path={text}",
        "experiment=real_pair",
        "suite=languages",
    ]
    for stage, more in (
        ("sweep", "+sweep.suites.languages=null"),
        ("tail", "seed=1"),
        ("traces", "seed=1"),
        ("eval", "dtype=bf16"),
    ):
        cfg = load([f"stage={stage}", *pair, more])
        load_stage(stage)[0].check(cfg)
    assert cfg.dtype == "bf16"
    assert (cfg.eval.rows, cfg.eval.lengths, cfg.eval.peers) == ("few", "best", ["generate", "assisted"])
