"""Domains where nobody names a column: known columns, names of files, scripts."""

import json
from pathlib import Path

import pytest

from pipeline.text.corpus import CorpusConfig, both
from pipeline.text.domains import MOST, file_labels, label_column, script_of


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("def add(a, b): return a + b", "latin"),
        ("12 + 30 = 42", "latin"),
        ("Le caf\u00e9 est ferm\u00e9, \u03c0 = 3", "latin"),
        ("\u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1 GPU", "greek"),
        ("\u4eca\u5929\u5929\u6c14\u5f88\u597d", "han"),
        ("\u043f\u0440\u0438\u0432\u0435\u0442", "cyrillic"),
        ("\u3053\u3093\u306b\u3061\u306f", "japanese"),
        ("\u2192 \u2192", "latin"),
    ],
)
def test_the_script_is_that_of_most_letters(text, script):
    assert script_of(text) == script


def test_a_column_of_few_kinds_is_taken_and_one_of_identifiers_is_not():
    kinds = [{"text": "x", "kind": ("math", "code")[i % 2], "source": f"url {i}"} for i in range(50)]
    assert label_column(kinds) == "kind"
    assert label_column([{"source": f"url {i}"} for i in range(50)]) is None
    assert label_column([{"kind": "one"}] * 50) is None  # nothing is told apart
    assert label_column([{"kind": "a"}, {"kind": None}] * 9) is None
    assert label_column([{"language": f"l{i % (MOST + 1)}"} for i in range(50)]) is None


def test_files_of_a_glob_are_domains_unless_they_are_parts_of_one():
    assert file_labels([Path("d/english.jsonl"), Path("d/greek.txt.gz")]) == {
        Path("d/english.jsonl"): "english", Path("d/greek.txt.gz"): "greek",
    }  # fmt: skip
    assert file_labels([Path(f"train-{i:05d}-of-00003.parquet") for i in range(3)]) == {}
    assert file_labels([Path("only.txt")]) == {}


def test_documents_carry_what_was_found(tmp_path):
    def domains(path, **values):
        found = both(CorpusConfig("mine", "local", path=str(path), **values))
        return {document.domain for _, document in found}

    rows = [json.dumps({"text": f"row {i}", "kind": ("a", "b")[i % 2]}) for i in range(20)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    (tmp_path / "greek.txt").write_text("\u03b1\n")
    assert domains(tmp_path / "rows.jsonl") == {"a", "b"}
    assert domains(tmp_path / "greek.txt") == {""}  # by its script, when it is counted
    assert domains(tmp_path / "*.*") == {"a", "b", "greek"}
    assert domains(tmp_path / "rows.jsonl", domain="text") == {f"row {i}" for i in range(20)}
