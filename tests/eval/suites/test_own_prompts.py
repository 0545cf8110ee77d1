"""Prompts of one's own: chats are asked up to the answer, columns and lines as they are."""

import json
from pathlib import Path

import pytest
import yaml

from eval.suites.dataset_rows import DataError
from eval.suites.suite import SuiteConfig, load, look, suite_config

LOCAL = yaml.safe_load((Path(__file__).resolve().parents[3] / "conf" / "suite" / "local.yaml").read_text())


def own(path: Path, **more: object) -> SuiteConfig:
    return suite_config(LOCAL | {"path": str(path)} | more)


@pytest.mark.parametrize(
    ("row", "text", "asked"),
    [
        ({"prompt": "A metal?"}, "A metal?", [("user", "A metal?")]),
        ({"question": "A metal?", "answer": "zinc"}, "A metal?\n\n", [("user", "A metal?")]),
        ({"prompt": "A metal?", "completion": None}, "A metal?\n\n", [("user", "A metal?")]),
        ({"turns": ["A metal?", "Why?"], "id": 5}, "A metal?", [("user", "A metal?")]),
        ({"text": "Once"}, "Once", [("user", "Once")]),
        (
            {
                "conversations": [
                    {"from": "system", "value": "S"},
                    {"from": "human", "value": "A"},
                    {"from": "gpt", "value": "B"},
                ]
            },
            "S\n\nA\n\n",
            [("system", "S"), ("user", "A")],
        ),
    ],
)
def test_rows(tmp_path, row, text, asked):
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    [prompt] = load(own(tmp_path / "mine.jsonl"))
    assert (prompt.text, [(item["role"], item["content"]) for item in prompt.messages]) == (text, asked)
    assert prompt.id == str(row.get("id", "mine.jsonl:1"))


def test_lines_of_a_file_or_files_of_a_folder(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    assert [(prompt.id, prompt.text) for prompt in load(own(tmp_path))] == [("a.txt:1", "one"), ("a.txt:3", "two")]
    (tmp_path / "b.txt").write_text("three\nfour")
    found = load(own(tmp_path, chat=None))
    assert [(prompt.id, prompt.text) for prompt in found] == [("a.txt", "one\n\ntwo\n"), ("b.txt", "three\nfour")]
    assert all(prompt.messages is None for prompt in found)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("mine.jsonl", '{"prompt": "x"}\n{', r"line 2 is no JSON"),
        ("mine.jsonl", '{"messages": [{"role": "assistant", "content": "x"}]}', "nothing to answer"),
        ("mine.jsonl", '{"a": 1}', r"choose with suite\.text=COLUMN"),
        ("mine.txt", "\n", "holds no rows"),
        ("mine.pdf", "x", "expected a file ending in one of"),
    ],
)
def test_what_is_wrong_is_found_at_the_first_look(tmp_path, name, text, why):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=why):
        look(own(tmp_path / name))
    with pytest.raises(DataError, match=r"suite\.path=.*: no such file or folder"):
        look(own(tmp_path / "nowhere.jsonl"))
