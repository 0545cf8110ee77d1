"""The count stage: counts by definition, the other tokenizer, held-out text, and going on after a kill."""

import io
import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console
from safetensors.torch import load_file
from tokenizers import Tokenizer

from drafters.io.atomic import write_atomic
from pipeline.count import documents, shards
from pipeline.errors import ConfigError
from pipeline.runner.stage import Context
from pipeline.stages import count
from pipeline.stages.count import STAGE, CountConfig
from pipeline.text import generations
from pipeline.text.corpus import is_heldout

ZOO = Path(__file__).resolve().parents[3] / "drafters" / "zoo" / "pycode"
TEXTS = [f"def function_{i}(x):\n    return x + {i}  # caf\u00e9\n" for i in range(60)]

SHARDS_OF_500 = 6  # ten texts of some 52 bytes each


@pytest.fixture
def corpus_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"text": text, "kind": f"kind {i % 3}"} for i, text in enumerate(TEXTS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def context(tmp_path, corpus_file, drafter="drafter", foreign=False, inputs=None, domain="kind", **settings) -> Context:
    pair = {"name": "zoo", "target": str(ZOO / "target"), "drafter": str(ZOO / drafter), "foreign": foreign}
    corpus = {"name": "mine", "source": "local", "path": str(corpus_file), "domain": domain, "text": None}
    generate = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "backend": "engine"}
    values = {"count": OmegaConf.structured(CountConfig(**settings)), "pair": pair, "corpus": corpus} | {
        "generate": generate, "device": "cpu", "dtype": "fp32",
    }  # fmt: skip
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    return Context(OmegaConf.create(values), inputs or {}, out, Console(file=io.StringIO(), width=200))


def run(made: Context) -> tuple[dict[str, torch.Tensor], dict, str]:
    STAGE.run(made)
    names = sorted(path.name for path in made.out.iterdir())
    assert names == ["counts.safetensors", "documents.safetensors", "report.json"]
    return (
        load_file(made.out / "counts.safetensors"),
        json.loads((made.out / "report.json").read_text()),
        made.console.file.getvalue(),
    )


def expected(folder: str, texts: list[str], size: int) -> torch.Tensor:
    tokenizer = Tokenizer.from_file(str(ZOO / folder / "tokenizer.json"))
    counts = torch.zeros(size, dtype=torch.int64)
    for text in texts:
        counts += torch.bincount(torch.tensor(tokenizer.encode(text).ids), minlength=size)
    return counts


def test_counts_are_those_of_plain_encoding(tmp_path, corpus_file):
    tensors, report, said = run(context(tmp_path, corpus_file))
    train = [text for text in TEXTS if not is_heldout(text)]
    size = len(tensors["counts"])
    assert set(tensors) == {"counts", "domains", "heldout_counts"}
    assert {tensor.dtype for tensor in tensors.values()} == {torch.int64}
    assert tensors["counts"].equal(expected("target", train, size))
    assert tensors["heldout_counts"].equal(expected("target", [text for text in TEXTS if is_heldout(text)], size))
    assert report["domains"] == ["kind 0", "kind 1", "kind 2"]
    for row, name in zip(tensors["domains"], report["domains"], strict=True):
        of_kind = [text for i, text in enumerate(TEXTS) if f"kind {i % 3}" == name and not is_heldout(text)]
        assert row.equal(expected("target", of_kind, size))
    assert report["tokens"] == tensors["counts"].sum()
    assert report["documents"] == len(train)
    assert report["bytes"] == sum(len(text.encode()) for text in train)
    assert "counting 5 kB, about" in said
    assert "1 .jsonl: text of column text" in said.splitlines()[0]
    assert f"{report['tokens']:,} tokens" in said


@pytest.mark.parametrize("foreign", [True, None])
def test_a_foreign_drafter_counts_the_same_text(tmp_path, corpus_file, foreign):
    tensors, _, _ = run(context(tmp_path, corpus_file, drafter="foreign", foreign=foreign))
    train = [text for text in TEXTS if not is_heldout(text)]
    assert tensors["drafter_counts"].equal(expected("foreign", train, len(tensors["drafter_counts"])))
    assert tensors["drafter_domains"].sum(0).equal(tensors["drafter_counts"])
    assert tensors["drafter_heldout_counts"].sum() > 0


def test_one_tokenizer_is_counted_once(tmp_path, corpus_file):
    tensors, _, _ = run(context(tmp_path, corpus_file, foreign=None))
    assert "drafter_counts" not in tensors


@pytest.mark.slow("worker processes, killed and started again, 4 s")
def test_a_killed_run_goes_on_and_gives_the_same(tmp_path, corpus_file, monkeypatch):
    (tmp_path / "whole").mkdir()
    whole, report, _ = run(context(tmp_path / "whole", corpus_file, shard_bytes=500))
    calls = []
    real = shards.count_tokens

    def killed(tokenizer, texts, **options):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        return real(tokenizer, texts, **options)

    monkeypatch.setattr(shards, "count_tokens", killed)
    with pytest.raises(KeyboardInterrupt):
        STAGE.run(context(tmp_path, corpus_file, shard_bytes=500))
    parts = sorted((tmp_path / "out").glob(".part-*"))
    assert len(parts) == 3
    left = []
    monkeypatch.setattr(shards, "count_tokens", lambda *args, **options: left.append(1) or real(*args, **options))
    tensors, again, _ = run(context(tmp_path, corpus_file, shard_bytes=500))
    assert again == report
    assert all(tensors[name].equal(whole[name]) for name in whole)
    assert len(left) == SHARDS_OF_500 - 3  # the finished ones were not counted again


def test_killed_between_the_report_and_the_removal_of_parts(tmp_path, corpus_file, monkeypatch):
    first = run(context(tmp_path, corpus_file))
    write_atomic(tmp_path / "out" / ".part-counts-00000.safetensors", b"left over")
    monkeypatch.setattr(count, "open_checkpoint", lambda *_: pytest.fail("counted again"))
    again = run(context(tmp_path, corpus_file))
    assert again[1] == first[1]


def test_max_bytes_bounds_what_is_read(tmp_path, corpus_file):
    _, report, _ = run(context(tmp_path, corpus_file, max_bytes=400))
    assert 400 <= report["bytes"] + 60 * report["heldout_documents"] < 600


def test_generations_count_continuations_only(tmp_path, corpus_file):
    made = tmp_path / "generated"
    made.mkdir()
    tokenizer = Tokenizer.from_file(str(ZOO / "target" / "tokenizer.json"))
    new = [torch.tensor(tokenizer.encode(text).ids) for text in TEXTS]
    prompts = [torch.tensor([5, 6, 7])] * len(new)
    for index in range(3):
        chosen = slice(20 * index, 20 * index + 20)
        write_atomic(generations.shard_path(made, index), generations.pack(prompts[chosen], new[chosen]))
    inputs = {"generate": made}
    tensors, report, _ = run(
        context(tmp_path, corpus_file, drafter="foreign", foreign=True, inputs=inputs, source="generations")
    )
    train = [text for i, text in enumerate(TEXTS) if i % 20 != 19]
    assert tensors["counts"].equal(expected("target", train, len(tensors["counts"])))
    assert tensors["drafter_counts"].equal(expected("foreign", train, len(tensors["drafter_counts"])))
    assert report["documents"] == 57
    assert report["domains"] == ["latin"]
    assert report["bytes"] == sum(len(text.encode()) for text in train)


def test_of_the_targets_own_text_the_law_is_read_and_domains_are_kept(tmp_path, corpus_file):
    made = tmp_path / "generated"
    made.mkdir()
    new = [torch.tensor([3 + i % 5] * 4) for i in range(40)]
    write_atomic(generations.shard_path(made, 0), generations.pack([torch.tensor([5, 6])] * 40, new))
    (made / generations.DOMAINS).write_text(json.dumps([("math", "")[i % 2] for i in range(40)]))
    tensors, report, said = run(
        context(tmp_path, corpus_file, inputs={"generate": made}, source="generations", law_tokens=20)
    )
    assert report["domains"] == ["latin", "math"]  # where nobody says it, the script
    assert report["domain_tokens"] == [18 * 4, 20 * 4]
    assert report["law_positions"] == 20  # every eighth request
    assert tensors["law"].sum().item() == pytest.approx(20, rel=1e-4)
    assert "domains: math 80, latin 72" in said
    assert "the target's law read at 20 positions" in said
    sampled = documents.read(tmp_path / "out").documents
    assert [item.number for item in sampled if item.read] == [0, 8, 16, 24, 32]
    assert sampled[1].content.equal(new[1])


def test_no_text_is_an_error(tmp_path):
    empty = tmp_path / "rows.jsonl"
    empty.write_text('{"text": "", "kind": "x"}\n')
    with pytest.raises(ConfigError, match=r"count\.source=corpus: it holds no tokens"):
        STAGE.run(context(tmp_path, empty))


def test_a_column_of_identifiers_is_no_domain(tmp_path, corpus_file, monkeypatch):
    monkeypatch.setattr(shards, "MAX_DOMAINS", 2)
    with pytest.raises(ConfigError, match=r"corpus\.domain: more than 2 different values"):
        STAGE.run(context(tmp_path, corpus_file))


def test_what_enters_the_key(tmp_path, corpus_file):
    cfg = context(tmp_path, corpus_file, workers=3).cfg
    assert STAGE.key_config(cfg) == STAGE.key_config(context(tmp_path, corpus_file).cfg)
    assert STAGE.external(cfg) == {"target": str(ZOO / "target"), "corpus.path": str(corpus_file)}
    assert STAGE.inputs(cfg) == {}
    other = context(tmp_path, corpus_file, foreign=True, source="generations").cfg
    assert STAGE.inputs(other) == {"generate": "generate"}
    assert set(STAGE.external(other)) == {"target", "drafter"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "web"}, r"count\.source=web: choose one of: corpus, generations"),
        ({"workers": 0}, r"count\.workers=0: expected a whole number from 1"),
        ({"max_bytes": -1}, r"count\.max_bytes=-1"),
    ],
)
def test_impossible_settings(values, message, tmp_path, corpus_file):
    with pytest.raises(ConfigError, match=message):
        STAGE.check(context(tmp_path, corpus_file, **values).cfg)


def test_chats_are_counted_as_the_target_says_them_and_broken_rows_are_told(tmp_path):
    file = tmp_path / "chats.jsonl"
    chat = [{"from": "human", "value": "\u03b1\u03b2"}, {"from": "gpt", "value": "zinc"}]
    file.write_text(json.dumps({"conversations": chat}) + "\n{broken\n")
    tensors, report, said = run(context(tmp_path, file, foreign=None, drafter="foreign", domain=None))
    assert tensors["counts"].equal(expected("target", ["zinc"], len(tensors["counts"])))
    assert tensors["drafter_counts"].equal(expected("foreign", ["zinc"], len(tensors["drafter_counts"])))
    assert report["broken"]["count"] == 1
    assert "chats of column conversations, the assistant's turns alone" in said.splitlines()[0]
    assert "warning: the target has no chat template" in said
    assert "warning: 1 broken rows were left out, the first: corpus.path=" in said
    assert "warning: none of 1 documents is held out" in said
