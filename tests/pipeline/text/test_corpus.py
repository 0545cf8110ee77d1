"""Corpora: every kind of file, both splits, errors that name the setting, and streams that never change."""

import gzip
import json
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from eval.suites.dataset_rows import DataError
from pipeline.config.settings import corpus_of
from pipeline.errors import ConfigError
from pipeline.text import local_text, python_source
from pipeline.text.corpus import both, documents, external, is_heldout, key_values, size_hint
from pipeline.text.python_source import Document

ROOT = Path(__file__).resolve().parents[3]
ROWS = [{"text": f"document {i}", "lang": "ab"[i % 2]} for i in range(100)]


def config(**values):
    return corpus_of(OmegaConf.create({"corpus": {"name": "mine", "source": "local"} | values}))


@pytest.fixture
def folder(tmp_path):
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "rows.jsonl").write_text(lines)
    with gzip.open(tmp_path / "rows.jsonl.gz", "wt") as stream:
        stream.write(lines)
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    (tmp_path / "rows.csv").write_text("text,lang\n" + "".join(f"{row['text']},{row['lang']}\n" for row in ROWS))
    return tmp_path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.json", "rows.parquet", "rows.csv"])
def test_every_kind_of_rows(folder, name):
    mine = config(path=str(folder / name), domain="lang")
    train, heldout = list(documents(mine, "train")), list(documents(mine, "heldout"))
    texts = [row["text"] for row in ROWS]
    assert [item.text for item in train] == [text for text in texts if not is_heldout(text)]
    assert [item.text for item in heldout] == [text for text in texts if is_heldout(text)]
    assert 0 < len(heldout) < 20
    assert {item.domain for item in train} == {"a", "b"}
    assert size_hint(mine) == (folder / name).stat().st_size


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.jsonl", "a.jsonl", "sub/c.jsonl", ".hidden.jsonl"):
        (tmp_path / name).write_text(json.dumps({"text": name}) + "\n")
    (tmp_path / "notes.txt").write_text("a file of text")
    (tmp_path / "README.md").write_text("about the others")
    read = [document.text for _, document in both(config(path=str(tmp_path)))]
    assert read == ["a.jsonl", "b.jsonl", "a file of text", "sub/c.jsonl"]
    read = [document.text for _, document in both(config(path=str(tmp_path), format="rows"))]
    assert read == ["a.jsonl", "b.jsonl", "sub/c.jsonl"]
    assert [item.text for _, item in both(config(path=str(tmp_path / "*.jsonl")))] == ["a.jsonl", "b.jsonl"]
    assert list(external(config(path=str(tmp_path / "*.jsonl"))).values()) == [
        str(tmp_path / name) for name in ("a.jsonl", "b.jsonl")
    ]


def test_plain_text_is_cut_at_blank_lines_and_nothing_is_lost(tmp_path, monkeypatch):
    monkeypatch.setitem(local_text.PIECE_CHARACTERS, "text", 100)
    text = "\r\n\n".join(f"paragraph {i}\nof two lines" for i in range(50)) + "\n\x00caf\u00e9"
    (tmp_path / "book.txt").write_bytes(text.encode() + b"\xff")
    pieces = [document.text for _, document in both(config(path=str(tmp_path / "book.txt")))]
    assert "".join(pieces) == text + "\ufffd"
    assert len(pieces) > 10
    assert all(len(piece) < 150 for piece in pieces)


def test_python_files(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b.py").write_text("y = 2\n")
    [first, second] = [document for _, document in both(config(path=str(tmp_path)))]
    assert first == Document("a.py", "x = 1\n", "")
    assert second.path == "b.py"


def test_chats_and_lone_surrogates(tmp_path):
    chat = [{"role": "user", "content": "Hi \ud800"}, {"role": "assistant", "content": "Yes."}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": chat}))
    [(_, document)] = both(config(path=str(tmp_path / "rows.jsonl"), text="messages"))
    assert (document.text, document.whole, document.prompt) == ("Yes.", "Hi \ufffd\n\nYes.", "Hi \ufffd\n\n")


def test_python_source_keeps_the_test_split_unseen_and_mixes_the_others(monkeypatch):
    splits = {name: [Document(f"{name}{i}.py", f"{name} {i}", "stdlib") for i in range(n)] for name, n in
              (("train", 60), ("calibration", 2), ("test", 5))}  # fmt: skip
    monkeypatch.setattr(python_source, "documents", lambda split, *_: iter(splits[split]))
    read = list(both(config(source="python")))
    assert sorted(document.text for _, document in read) == sorted(
        d.text for n in ("train", "calibration") for d in splits[n]
    )
    assert [split for split, _ in read[:20]].count("heldout") == 1
    assert [document.text for document in documents(config(source="python"), "heldout")] == [
        "calibration 0",
        "calibration 1",
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"path": "nowhere.txt"}, r"corpus\.path=nowhere\.txt: no such file"),
        ({"path": "."}, r"corpus\.path=\.: the folder holds no file ending in"),
        ({"path": "rows.jsonl", "text": "body"}, r"corpus\.text=body: no such column; the rows have: lang, text"),
        ({"path": "rows.jsonl", "domain": "language"}, r"corpus\.domain=language: no such column"),
        ({"source": "hub", "hub": "org/name", "revision": None}, r"corpus\.revision=None: .* corpus\.path=FILE"),
        ({"path": "numbers.jsonl"}, r"corpus\.text=text: expected a column of strings.* got 3"),
    ],
)  # fmt: skip
def test_reading_errors(values, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if values.get("path") != ".":
        Path("rows.jsonl").write_text(json.dumps(ROWS[0]))
        Path("numbers.jsonl").write_text('{"text": 3}')
    with pytest.raises((DataError, ConfigError), match=message):
        list(both(config(**values)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pth": "x"}, r"corpus\.pth: no such setting; did you mean path\?"),
        ({"source": "hubb"}, r"corpus\.source=hubb: did you mean hub\?"),
        ({"path": "x", "format": "xml"}, r"corpus\.format=xml"),
        ({}, r"corpus=mine: no corpus\.path: give text .*corpus\.path=FILE"),
        ({"source": "hub"}, r"corpus=mine: no place to read from; set corpus\.path=FILE"),
        ({"path": "x", "turns": "users"}, r"corpus\.turns=users"),
    ],
)
def test_configuration_errors(values, message):
    with pytest.raises(ConfigError, match=message):
        config(**values)
    with pytest.raises(ConfigError, match=r"no corpus: give text .*corpus=local corpus\.path=FILE.*corpus=pycode"):
        corpus_of(OmegaConf.create({"corpus": None}))


def test_hub_that_cannot_be_reached_names_the_local_way(monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", refuse)
    with pytest.raises(DataError, match=r"did not give the data set.*corpus\.path=FILE"):
        list(both(config(source="hub", hub="org/name", revision="0" * 40)))


def test_what_enters_the_content_key(tmp_path, monkeypatch):
    monkeypatch.setattr(python_source, "fingerprint", lambda split, *_: f"hash of {split}")
    local = config(path=str(tmp_path))
    assert external(local) == {"corpus.path": str(tmp_path)}
    assert key_values(local) == key_values(config(path="/elsewhere"))  # its content counts, not its place
    assert external(config(source="hub", hub="org/name", revision="a" * 40)) == {"corpus.hub": f"org/name@{'a' * 40}"}
    assert external(config(source="python")) == {}
    with pytest.raises(ConfigError, match=r"corpus\.revision=main: expected a commit of 40 hex digits"):
        external(config(source="hub", hub="org/name", revision="main"))
    assert key_values(config(source="python"))["content"] == ["hash of train", "hash of calibration"]


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "corpus").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_is_valid(path):
    values = yaml.safe_load(path.read_text())
    assert values["name"] == path.stem
    corpus_of(OmegaConf.create({"corpus": values | {"path": "FILE"}}))
