"""The engine's benchmark on tiny models: ratios have the meaning of their names, and a missing package is said."""

import json

import pytest
import torch

from drafters.engine.transformers_pair import pair_of
from drafters.models.pair import ModelPair
from drafters.vocab.alignment import identity
from eval.bench import engine
from eval.bench.engine import AR, EngineOptions, Setting
from eval.bench.peers import ASSISTED, GENERATE, same_tokenizer
from eval.lossless.real_models.outputs import OutputsError

SMALL = EngineOptions(prompts=2, tokens=6, rounds=3, length=2, lengths=[1, 2], temperatures=[0.0, 1.0], compile=False)


@pytest.fixture
def setting(target, drafter, monkeypatch) -> Setting:
    models = ModelPair(target, drafter, None, None, None, None, False, ("target", "drafter"), (None, None), ())
    peers = same_tokenizer(target, drafter, SMALL.length)
    for model in (target, drafter, *(peer.drafter for peer in peers if peer.drafter)):
        monkeypatch.setattr(model.generation_config, "eos_token_id", None)
        monkeypatch.setattr(model.config, "eos_token_id", None)
    pair, prompts = pair_of(models), [torch.tensor([3, 7, 1]), torch.tensor([4, 2])]
    made = Setting(models, models, pair, pair, identity(24), peers, prompts)
    monkeypatch.setattr(Setting, "load", staticmethod(lambda options: made))
    found = {"p_value": 0.5, "detectable_tv": 0.1, "passes": True}
    monkeypatch.setattr(engine, "gate", lambda *arguments: {ASSISTED: found})
    return made


def test_every_figure_is_there_and_says_what_it_is_called(setting, monkeypatch):
    monkeypatch.setattr(engine, "FOREIGN", ASSISTED)  # no further tokenizer here

    def timed(tasks, rounds, device):
        """Every task takes the time that its name says: plain decoding 2 s, generate 3 s, all others 1 s."""
        for task in tasks.values():
            task()
        return {name: [{AR: 2.0, GENERATE: 3.0}.get(name, 1.0)] * rounds for name in tasks}

    monkeypatch.setattr(engine, "alternate", timed)
    found = engine.measure(SMALL)
    json.dumps(found, allow_nan=False)
    for heat in ("0.0", "1.0"):
        table = found["temperatures"][heat]
        assert table["vs_transformers_generate"]["median"] == pytest.approx(1.5)  # 3 s over 2 s
        assert table["vs_transformers_assisted"]["median"] == pytest.approx(1.0)
        assert table["vs_autoregressive"]["median"] == pytest.approx(2.0)
        assert table["tokens_per_second"][AR] == pytest.approx(SMALL.tokens / 2)
        assert set(table["lengths"]) == {"speculative_1", "speculative_2", "packaged_1", "packaged_2"}
        for row in table["lengths"].values():
            assert 1 <= row["block_efficiency"] <= 3
    assert found["vs_transformers_generate"] == pytest.approx(1.5)
    assert 0 < found["outside_forwards"]["share"] < 1
    assert any("its sampling passes" in line for line in engine.lines(found))


def test_the_same_greedy_work(setting):
    """Compared are runs that write the same tokens."""
    peer = setting.peers[1]
    for number, prompt in enumerate(setting.prompts):
        theirs = peer.run(prompt, 0.0, 6).tolist()
        assert setting.plain(number, 0.0, 6).tokens[0].tolist() == theirs
        assert setting.drafted(number, 0.0, 6, 2).tokens[0].tolist() == theirs
        assert setting.packaged(number, 0.0, 6, 2).tokens[0].tolist() == theirs


def test_without_a_package_it_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputsError, match="make package"):
        engine.main(EngineOptions())
