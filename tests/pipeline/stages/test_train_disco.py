"""traces -> train-disco -> package -> eval on tiny random models, and traces that are interrupted."""

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tokenizers import Tokenizer, decoders, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import drafters
from drafters.generation import generate
from pipeline.config.hydra_config import load
from pipeline.disco.traces import trace_files
from pipeline.errors import ConfigError
from pipeline.runner.runner import Runner
from pipeline.stages import eval as eval_stage
from pipeline.stages import traces as stage

TOKENS = ["</s>", *"abcdefghijkl"]


def make_model(folder: Path, seed: int, layers: int) -> None:
    torch.manual_seed(seed)
    backend = Tokenizer(models.BPE({token: index for index, token in enumerate(TOKENS)}, []))
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    config = LlamaConfig(
        vocab_size=len(TOKENS), hidden_size=16, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64, initializer_range=0.3, bos_token_id=None, eos_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("disco")
    make_model(root / "target", 0, 2)
    make_model(root / "drafter", 1, 1)
    letters = "abcdefghijkl"
    starts = (letters[n % 12] + letters[n // 12 % 12] + letters[n // 144] for n in range(400))  # no text twice
    lines = [{"text": f"{start}abcabcabdkl" * 3} for start in starts]
    (root / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [{"id": f"task {n}", "prompt": text} for n, text in enumerate(("abcab", "bca", "cabcd"))]
    (root / "suite.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def run(place: Path, name: str, *more: str) -> tuple[Path, str]:
    said = io.StringIO()
    cfg = load(
        [
            f"stage={name}", "pair=local", f"pair.target={place / 'target'}", f"pair.drafter={place / 'drafter'}",
            "corpus=local", f"corpus.path={place / 'corpus.jsonl'}", "count.workers=1", "prune.size=9", "tail.enabled=false",
            "affinity.enabled=false", f"suite.path={place / 'suite.jsonl'}", f"runs_dir={place / 'runs'}", "device=cpu",
            "dtype=fp32", "traces.requests=12", "traces.prefix_tokens=6", "traces.per_document=2",
            "traces.max_new_tokens=12", "traces.shard_size=5", "train_disco.enabled=true", "train_disco.epochs=2",
            "train_disco.cost_runs=2", "train_disco.max_length=6", "train_disco.suite_prompts=2",
            "train_disco.clock_prompts=1", "eval.max_new_tokens=6", "eval.repeats=1", "eval.cost_runs=2", *more,
        ]
    )  # fmt: skip
    return Runner(cfg, Console(file=said, width=100)).run(name), said.getvalue()


@pytest.fixture(scope="module")
def trained(place) -> tuple[Path, str]:
    return run(place, "train-disco")


def test_traces_go_on_after_the_last_whole_shard(place, monkeypatch):
    real, made = stage.traced, []

    def once(*args):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(args[3])
        return real(*args)

    monkeypatch.setattr(stage, "traced", once)
    with pytest.raises(KeyboardInterrupt):
        run(place, "traces", "seed=5")
    made.clear()
    monkeypatch.setattr(stage, "traced", lambda *args: made.append(args[3]) or real(*args))
    out, _ = run(place, "traces", "seed=5")
    assert made[0][0] == 10  # the third shard of temperature 0: two are kept
    assert len(made) == 4
    requests = trace_files.read_shards(out)
    assert [item.number for item in requests] == [*range(12), *range(12)]
    by_split = {name: {r.group for r in requests if r.split == name} for name in ("train", "validation", "test")}
    assert all(by_split.values())
    assert len(set.union(*by_split.values())) == sum(map(len, by_split.values()))


def test_the_report_and_the_component(trained):
    out, said = trained
    report = json.loads((out / "report.json").read_text(), parse_constant=pytest.fail)
    assert {(part["suite"], part["temperature"]) for part in report["replayed"]} == {
        (suite, t) for suite in ("held-out traces", "local") for t in (0.0, 1.0)
    }
    names = {row["policy"] for row in report["replayed"][0]["rows"]}
    assert {"static_tuned", "heuristic", "svip", "disco", "specdecpp", "cost_aware", "laws known", "oracle"} <= names
    assert {row["policy"] for row in report["ran"]} >= names - {"oracle", "laws known"}
    assert not list(out.glob(".*"))
    config = json.loads((out / "stop" / "config.json").read_text())
    assert {"rate.0", "rate.1", "disco_threshold.1"} <= set(config["parameters"])
    assert config["trained_on"]["sampler"] == "tli"
    assert "expected calibration error on the test split: T = 0 accepted" in said


def test_the_package_holds_it_and_eval_measures_it(place, trained):
    stops = "eval.stops=[static,heuristic,disco,cost_aware]"
    more = (stops, "eval.samplers=[tli]", "eval.temperatures=[0.0,1.0]", "eval.compare=false", "eval.law_rounds=0")
    out, _ = run(place, "eval", *more)
    report = json.loads((out / "report.json").read_text())
    rows = {(row["stop"], row["temperature"]) for row in report["rows"] if row["drafter"] == "package"}
    assert rows == {(stop, t) for stop in ("static", "heuristic", "disco", "cost_aware") for t in (0.0, 1.0)}
    assert report["greedy_identity"]["status"] == "ok"
    package = next(path for path in (place / "runs" / "package").iterdir() if (path / "drafters.json").is_file())
    loaded = drafters.load(package, device="cpu", dtype="fp32")
    target = LlamaForCausalLM.from_pretrained(place / "target").eval()
    prompt = torch.tensor([1, 2, 3])
    plain = generate(target, loaded, prompt, stop="static", lookahead=0, temperature=0.0, max_new_tokens=8)
    for stop in ("disco", "specdecpp", "cost_aware"):
        found = generate(target, loaded, prompt, stop=stop, temperature=0.0, max_new_tokens=8)
        assert torch.equal(found.tokens[0], plain.tokens[0])


def test_a_trained_policy_without_a_training_is_refused_before_anything_runs(place):
    with pytest.raises(ConfigError, match=r"stop=disco: .*train_disco.enabled=true"):
        run(place, "eval", "stop=disco", "train_disco.enabled=false")
    with pytest.raises(ConfigError, match=r"eval.stops: discoo: no such stop policy; did you mean disco\?"):
        eval_stage.check(load(["stage=eval", "eval.stops=[discoo]"]))
