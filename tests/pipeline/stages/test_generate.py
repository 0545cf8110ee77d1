"""The generate stage: greedy output is transformers' own, and shards resume to the same bytes."""

import io
import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.errors import ConfigError
from pipeline.generate import target
from pipeline.runner.stage import Context
from pipeline.stages import generate
from pipeline.stages.generate import STAGE, GenerateConfig, write_shards
from pipeline.text import generations

TARGET = Path(__file__).resolve().parents[3] / "drafters" / "zoo" / "pycode" / "target"
SMALL = {"requests": 5, "prefix_tokens": 6, "max_new_tokens": 5, "batch_size": 2}


@pytest.fixture
def corpus_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    texts = [f"def function_{i}(first, second):\n    return first + second\n" for i in range(20)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ["too short", *texts]))
    return path


def context(out: Path, corpus_file: Path, seed: int = 0, **settings) -> Context:
    values = {
        "generate": OmegaConf.structured(GenerateConfig(**SMALL | settings)),
        "pair": {"name": "zoo", "target": str(TARGET), "drafter": str(TARGET), "foreign": False},
        "corpus": {"name": "mine", "source": "local", "path": str(corpus_file)},
        "suite": {"name": "pycode", "path": "pycode.jsonl", "id": ["id"], "template": "{prompt}"},
        "device": "cpu",
        "dtype": "fp32",
        "seed": seed,
    }
    out.mkdir(exist_ok=True)
    return Context(OmegaConf.create(values), {}, out, Console(file=io.StringIO(), width=200))


def shards(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob(generations.PATTERN))}


def test_greedy_continuations_are_those_of_transformers(tmp_path, corpus_file):
    made = context(tmp_path / "out", corpus_file, temperature=0.0)
    STAGE.run(made)
    model = AutoModelForCausalLM.from_pretrained(TARGET, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(TARGET)
    read = list(generations.read(made.out))
    assert len(read) == 5
    assert len(shards(made.out)) == 3
    for prompt, new in read:
        assert len(prompt) == 6
        output = model.generate(prompt[None], max_new_tokens=5, do_sample=False, pad_token_id=tokenizer.eos_token_id)
        assert new.tolist() == output[0, 6:].tolist()
    report = json.loads((made.out / "report.json").read_text())
    assert report == {"requests": 5, "tokens": sum(len(new) for _, new in read), "prompt_tokens": 30}


def test_seed_decides_and_a_killed_run_goes_on_to_the_same_bytes(tmp_path, corpus_file, monkeypatch):
    STAGE.run(context(tmp_path / "whole", corpus_file, seed=3))
    STAGE.run(context(tmp_path / "other", corpus_file, seed=4))
    assert shards(tmp_path / "whole") != shards(tmp_path / "other")

    real, calls = target.autoregressive, []

    def killed(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(target, "autoregressive", killed)
    with pytest.raises(KeyboardInterrupt):
        STAGE.run(context(tmp_path / "out", corpus_file, seed=3))
    assert list(shards(tmp_path / "out")) == ["shard-00000.safetensors"]
    STAGE.run(resumed := context(tmp_path / "out", corpus_file, seed=3))
    assert "2 of 5 prompts were there already" in resumed.console.file.getvalue()
    assert len(calls) == 2 + 2  # the finished shard is not decoded again
    assert shards(tmp_path / "out") == shards(tmp_path / "whole")


def test_a_corpus_of_fewer_prompts_than_requests_is_told(tmp_path, corpus_file):
    STAGE.run(made := context(tmp_path / "out", corpus_file, requests=5_000, max_new_tokens=1, batch_size=500))
    assert "of generate.requests=5000: no further chat with a question" in made.console.file.getvalue()


def test_prompts_of_a_suite(tmp_path, corpus_file):
    made = context(tmp_path / "out", corpus_file, prompts="suite", requests=3, max_new_tokens=2)
    STAGE.run(made)
    tokenizer = AutoTokenizer.from_pretrained(TARGET)
    first, _ = next(generations.read(made.out))
    rows = (Path(generate.suites.EMBEDDED) / "pycode.jsonl").read_text().splitlines()
    assert tokenizer.decode(first) == json.loads(rows[0])["prompt"]


def test_of_a_chat_the_first_answer_is_asked_for(tmp_path):
    file = tmp_path / "chats.jsonl"
    chat = [{"from": "human", "value": "A metal?"}, {"from": "gpt", "value": "zinc"}]
    file.write_text(
        "".join(json.dumps({"conversations": [*chat, {"from": "human", "value": str(i)}]}) + "\n" for i in range(3))
    )
    made = context(tmp_path / "out", file, requests=1, max_new_tokens=2)
    STAGE.run(made)
    [(prompt, _)] = generations.read(made.out)
    assert AutoTokenizer.from_pretrained(TARGET).decode(prompt) == "A metal?\n\n"


def test_prompts_without_an_answer_are_enough_and_keep_their_domain(tmp_path):
    file = tmp_path / "chats.jsonl"
    rows = [
        {"kind": ("math", "code")[i % 2], "messages": [{"role": "user", "content": f"Which metal is no. {i}?"}]}
        for i in range(8)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = context(tmp_path / "out", file, requests=4, max_new_tokens=2, batch_size=4)
    STAGE.run(made)
    tokenizer = AutoTokenizer.from_pretrained(TARGET)
    asked = [tokenizer.decode(prompt) for prompt, _ in generations.read(made.out)]
    assert all(text.startswith("Which metal is no.") for text in asked)
    domains = generations.domains(made.out)
    assert len(domains) == len(asked) == 4
    assert domains == [("math", "code")[int(text.split()[4].rstrip("?")) % 2] for text in asked]
    assert "at most 8 tokens, 0 kB" in made.console.file.getvalue()
    assert generations.domains(tmp_path) == []  # of before


def test_shards_number_their_requests_and_keep_what_is_there(tmp_path, corpus_file):
    made, seen = context(tmp_path / "out", corpus_file), []

    def decode(batch, requests):
        seen.append(list(requests))
        return [torch.arange(request) for request in requests]

    prompts = [torch.tensor([7] * (i + 1)) for i in range(7)]

    def make(work, done):
        for index, piece in reversed(list(enumerate(work))):  # they may come in any order
            yield index, target.shard(decode, piece, 3, done)

    write_shards(made, prompts, 4, make)
    assert seen == [[4, 5, 6], [0, 1, 2], [3]]
    read = list(generations.read(made.out))
    assert [prompt.tolist() for prompt, _ in read] == [prompt.tolist() for prompt in prompts]
    assert [new.tolist() for _, new in read] == [list(range(i)) for i in range(7)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompts": "web"}, r"generate\.prompts=web"),
        ({"batch_size": 0}, r"generate\.batch_size=0: expected a whole number from 1"),
        ({"temperature": -1.0}, r"generate: temperature must be >= 0"),
        ({"top_p": 0.0}, r"generate: top_p"),
        ({"backend": "sglang"}, r"generate\.backend=sglang: choose one of: engine, vllm"),
        ({"backend": "vllm"}, r"generate\.url.*`vllm serve .*target`"),
    ],
)
def test_impossible_settings(values, message, tmp_path, corpus_file):
    with pytest.raises(ConfigError, match=message):
        STAGE.check(context(tmp_path / "out", corpus_file, **values).cfg)


def test_a_continuation_longer_than_the_context_is_refused(tmp_path, corpus_file):
    with pytest.raises(ConfigError, match=r"generate\.max_new_tokens=100000: the target's context holds \d+ tokens"):
        STAGE.run(context(tmp_path / "out", corpus_file, max_new_tokens=100_000))


def test_no_prompts_is_an_error(tmp_path, corpus_file):
    with pytest.raises(ConfigError, match=r"no prompts: .*no document of generate\.prefix_tokens=200 tokens"):
        STAGE.run(context(tmp_path / "out", corpus_file, prefix_tokens=200))


def test_what_enters_the_key(tmp_path, corpus_file):
    made = context(tmp_path / "out", corpus_file)
    assert STAGE.external(made.cfg) == {"target": str(TARGET), "corpus.path": str(corpus_file)}
    assert STAGE.key_config(made.cfg) != STAGE.key_config(context(tmp_path / "out", corpus_file, seed=1).cfg)
    suite = context(tmp_path / "out", corpus_file, prompts="suite").cfg
    assert STAGE.external(suite)["suite"].endswith("pycode.jsonl")
    assert STAGE.key_config(suite)["suite"]["name"] == "pycode"
