"""`inspect` tells what is there, agrees with `load`, and builds nothing."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from drafters.package.hub import Source
from drafters.package.inspection import MODEL, PACKAGE, inspect_folder


def lines(folder):
    return {line.check: line for line in inspect_folder(Source(folder, folder, folder.name, None))}


def test_a_good_package(original, monkeypatch):
    def built(*args, **kwargs):
        raise AssertionError("something was built")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", built)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", built)
    monkeypatch.setattr("drafters.package.artifact.load_pruned", built)
    monkeypatch.setattr("drafters.package.artifact.open_tokenizer", built)
    found = lines(original)
    assert list(found) == [name for name, _ in PACKAGE]
    assert all(line.passed for line in found.values())
    assert "9 of 48 tokens of org/drafter (90.0% of the target's text), licence mit" in found["description"].found
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
