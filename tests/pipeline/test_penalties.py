"""Penalties in a target's generation config: the library, doctor, eval and stage=generate say the same, and one line ends it."""

import json
import shutil
from pathlib import Path

import pytest

from drafters.decode_call import check_settings
from drafters.models.pair import load_pair
from drafters.samplers.lossy_settings import LossyError
from pipeline.config.hydra_config import load
from pipeline.doctor.finding import FAIL
from pipeline.doctor.model_checks import model_findings
from pipeline.evaluate import setup
from pipeline.runner.stage import Context
from pipeline.stages import eval as eval_stage
from pipeline.stages import generate

ZOO = Path(__file__).parents[2] / "drafters" / "zoo" / "pycode"
SAID = r"no_repeat_ngram_size=3, repetition_penalty=1.05.*In Python: .*target.generation_config.repetition_penalty = None.*"
SAID += r"in a run: pair.unset=\[no_repeat_ngram_size,repetition_penalty\]"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The embedded target with two settings more, and the embedded drafter: settings of a run."""
    target = tmp_path_factory.mktemp("penalised") / "target"
    shutil.copytree(ZOO / "target", target)
    known = json.loads((target / "generation_config.json").read_text())
    (target / "generation_config.json").write_text(
        json.dumps(known | {"repetition_penalty": 1.05, "no_repeat_ngram_size": 3})
    )
    return ["pair=local", f"pair.target={target}", f"pair.drafter={ZOO / 'drafter'}"]


def findings(pair, *more):
    return {item.check: item for item in model_findings(load(["stage=eval", *pair, *more]))}


def test_all_refuse_it_with_the_same_words(pair, monkeypatch):
    cfg = load(["stage=generate", *pair])
    with pytest.raises(LossyError, match=SAID):
        generate.run(Context(cfg, {}, Path("nowhere"), None))  # before anything is decoded
    models = load_pair(target=cfg.pair.target, drafter=cfg.pair.drafter, device="cpu")
    with pytest.raises(LossyError, match=SAID):
        check_settings(models.target, models.drafter)
    for name in ("load", "check_target"):
        monkeypatch.setattr(setup, name, lambda *a, **k: None)
    with pytest.raises(LossyError, match=SAID):
        setup.opened(eval_stage._asked(load(["stage=eval", "suite=pycode", "device=cpu", *pair])), Path("no package"))
    found = findings(pair)["target settings"]
    assert found.state == FAIL
    assert "pair.unset=[no_repeat_ngram_size,repetition_penalty]" in found.fix


def test_one_line_ends_it(pair):
    assert findings(pair, "pair.unset=[repetition_penalty]")["target settings"].text.startswith(
        "the target's generation config has no_repeat_ngram_size=3,"
    )
    assert "target settings" not in findings(pair, "pair.unset=[no_repeat_ngram_size,repetition_penalty]")
    cfg = load(["stage=eval", *pair, "pair.unset=[no_repeat_ngram_size,repetition_penalty]"])
    models = load_pair(cfg.pair, device="cpu")
    check_settings(models.target, models.drafter)
    assert models.left_out == {"repetition_penalty": 1.05, "no_repeat_ngram_size": 3}  # told under the table
    assert models.target.generation_config.repetition_penalty is None


def test_a_name_that_is_no_such_setting(pair):
    found = findings(pair, "pair.unset=[repetition_penalti]")["target settings"]
    assert "expected some of repetition_penalty" in found.text
