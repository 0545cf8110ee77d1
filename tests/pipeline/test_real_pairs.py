"""Real models of other people through count, prune, package and eval: one tokenizer, and two."""

import io
import json

import pytest
from rich.console import Console

from pipeline.config.hydra_config import load
from pipeline.runner.runner import Runner
from tests.data import DATA, needs

pytestmark = needs("models", "text")


@pytest.mark.parametrize(
    ("drafter", "vocabulary", "sampler"), [("stories260K", 512, "block"), ("babyllama-105", 105, "slrs")]
)
def test_a_real_pair_from_text_to_report(tmp_path, drafter, vocabulary, sampler):
    text = (DATA / "text" / "grimms_fairy_tales.txt").read_text(encoding="utf-8")[:60_000]
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    (tmp_path / "suite.jsonl").write_text(
        "".join(json.dumps({"id": str(at), "prompt": text[at : at + 80]}) + "\n" for at in (0, 900))
    )
    cfg = load(
        [
            "stage=eval", "pair=local", f"pair.target={DATA / 'models' / 'tinystories-bit-1M'}",
            f"pair.drafter={DATA / 'models' / drafter}", "corpus=local", f"corpus.path={tmp_path / 'text.txt'}",
            "count.workers=1", "prune.fraction=0.5", f"suite.path={tmp_path / 'suite.jsonl'}", f"runs_dir={tmp_path / 'runs'}",
            "device=cpu", "dtype=fp32", f"eval.samplers=[tli,{sampler}]", "eval.compare=false", "eval.temperatures=[0,1]",
            "eval.max_new_tokens=6", "eval.cost_runs=2", "eval.law_rounds=4",
        ]
    )  # fmt: skip
    out = Runner(cfg, Console(file=io.StringIO(), width=100)).run("eval")
    report = json.loads((out / "report.json").read_text(), parse_constant=pytest.fail)
    assert (report["vocabulary"], report["drafter_vocabulary"]) == (512, vocabulary)
    assert 0 < report["kept"] < vocabulary
    assert report["greedy_identity"]["different"] == 0
    packaged = {(row["sampler"], row["temperature"]) for row in report["rows"] if row["drafter"] == "package"}
    assert packaged == {(name, t) for name in ("tli", sampler) for t in (0.0, 1.0)}
    assert all(row["tokens"] > 0 for row in report["rows"])
