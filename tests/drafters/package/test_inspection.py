"""`inspect` tells what is there, agrees with `load`, and builds nothing."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from drafters.io.hub import Source
from drafters.package.inspection import MODEL, PACKAGE, inspect_folder
from drafters.package.recommendation.recommended_json import NAME, write_recommendation
from pipeline.inspect import main as inspect


def lines(folder):
    return {line.check: line for line in inspect_folder(Source(folder, folder, folder.name, None))}


def test_a_good_package(original, monkeypatch):
    def built(*args, **kwargs):
        raise AssertionError("something was built")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", built)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", built)
    monkeypatch.setattr("drafters.package.reader.load_pruned", built)
    monkeypatch.setattr("drafters.package.reader.open_tokenizer", built)
    found = lines(original)
    assert list(found) == [name for name, _ in PACKAGE]
    assert all(line.passed for line in found.values())
    assert "9 of 48 tokens of org/drafter (90.0% of the counted text), licence mit" in found["description"].found
    assert found["other parts"].found == "affinity: valid, tail: valid, stop: valid"
    assert "affinity.safetensors" in found["files"].found


@pytest.mark.parametrize(
    ("file", "key", "value", "check"),
    [
        ("config.json", "auto_map", {"AutoModel": "evil.Model"}, "weights header"),
        ("config.json", "vocab_size", 47, "config"),
        ("drafters.json", "eos", [99], "description"),
        ("stop/config.json", "threshold", 3, "other parts"),
        ("tokenizer.json", "pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(a+)+"}}, "tokenizer"),
    ],
)
def test_the_reason_stands_at_its_check_and_nothing_after_it_is_used(package, tools, file, key, value, check):
    data = json.loads((package / file).read_text())
    (package / file).write_text(json.dumps({**data, key: value}))
    assert lines(package)["seal"].passed is False  # as it is: the seal says so first
    tools.reseal(package)
    found = lines(package)
    order = [name for name, _ in PACKAGE]
    assert [found[name].passed for name in order[: order.index(check)]] == [True] * order.index(check)
    assert found[check].passed is False
    assert file in found[check].found
    assert {found[name].passed for name in order[order.index(check) + 1 :]} <= {None}


def test_a_secret_is_a_reason(package, tools):
    data = json.loads((package / "tokenizer_config.json").read_text())
    (package / "tokenizer_config.json").write_text(json.dumps({**data, "chat_template": "hf_" + "aB3" * 12}))
    tools.reseal(package)
    assert "no keys or passwords" in lines(package)["secrets"].found
    assert lines(package)["secrets"].passed is False


def test_a_plain_model_folder(tmp_path, tools):
    tools.make_model().save_pretrained(tmp_path)
    found = lines(tmp_path)
    assert list(found) == [name for name, _ in MODEL]
    assert all(line.passed for line in found.values())
    torch.save({}, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    assert "pytorch_model.bin" in lines(tmp_path)["weights header"].found


def test_a_recommendation_takes_two_lines(package, made, capsys):
    write_recommendation(package / NAME, made())
    first, second = lines(package)["recommendation"].found.split("\n")
    assert first == "for this package with org/target, on cpu in fp32 with 2 threads, prompts of pycode"
    assert second.strip() == (
        "T = 0: tli, package drafter, 5 per round, 1.60 (1.50-1.70) x; T = 1, top_k = 5, top_p = 0.9: plain decoding"
    )
    assert inspect([str(package)]) == 0
    assert "ok      recommendation  for this package" in capsys.readouterr().out


def test_a_broken_recommendation_is_no_reason_to_refuse_a_package(package, made, capsys):
    """`load` takes the package and leaves the advice."""
    write_recommendation(package / NAME, made(package="d" * 64))
    assert inspect([str(package)]) == 0
    said = capsys.readouterr().out
    assert "-       recommendation  not used: recommended.json: package: expected" in said
    assert said.endswith("accepted\n")
    (package / "LICENSE").write_text("another")
    assert inspect([str(package)]) == 1
    assert "recommendation" not in capsys.readouterr().out
