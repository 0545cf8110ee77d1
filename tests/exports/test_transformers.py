"""Every release that our users, converters and servers have opens the exports, and reads the same in them."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from drafters.rounding import excess, logits_bound
from tests.exports.releases import run

TEXTS = (
    "def f(x):\n    return x", "class Reader:\n\tpass\n", "naïve café", "你好 日本語", "🎉👩‍👧", "<|endoftext|>", " a  b   c", "x=1;y=2",
    "for i in range(10):", "\r\n\t\n",
)  # fmt: skip


@pytest.mark.parametrize("form", ["transformers-padded", "vllm-full"])
def test_logits_tokens_and_dtype(transformers, family, form, tmp_path):
    folder, ids = family / form, [5, 17, 300, 2, 41, 999, 8, 64, 12, 7, 260, 31]
    out = tmp_path / "logits.safetensors"
    found = run(transformers, "open_transformers.py", folder, json.dumps(ids), json.dumps(TEXTS), out)
    assert found["version"] == transformers.name.partition("==")[2]
    assert (found["dtype"], found["missing"], found["length"]) == ("torch.bfloat16", [], 5)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert found["tokens"] == [tokenizer(text)["input_ids"] for text in TEXTS]
    assert found["specials"] == sorted(map(str, tokenizer.all_special_tokens))
    model, rows = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), torch.tensor([ids])
    with torch.inference_mode():
        assert excess(load_file(out)["logits"], model(rows).logits, logits_bound(model, rows)) <= 1


@pytest.mark.parametrize(("form", "same"), [("transformers-full", 0), ("transformers-padded", 1)])
def test_greedy_is_the_targets_and_sampling_never_lies(transformers, pycode, target, form, same):
    found = run(
        transformers, "assist_transformers.py", target, pycode / form, same, "class Reader:\n    def __init__(self"
    )
    assert found["drafted"] == found["plain"]
    assert found["forwards"] > 0, "it did not draft"
    assert found["sampled"] == "runs" if same else found["sampled"].startswith("AttributeError: ")


def test_a_head_of_its_own_is_kept(transformers, tmp_path):
    """A merged adapter's folder, tied by its config: the export's flag is the weights'."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.exports.conftest import SIZES, ZOO, exported

    LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=False)).save_pretrained(tmp_path / "drafter")
    config = json.loads((tmp_path / "drafter" / "config.json").read_text()) | {"tie_word_embeddings": True}
    (tmp_path / "drafter" / "config.json").write_text(json.dumps(config))
    AutoTokenizer.from_pretrained(ZOO / "drafter").save_pretrained(tmp_path / "drafter")
    with pytest.warns(UserWarning, match="two tensors"):
        exported(tmp_path, tmp_path / "drafter", 16448, ("sglang", "padded"))
    found = run(transformers, "open_transformers.py", tmp_path / "sglang-padded", "[1]", "[]", tmp_path / "out")
    assert (found["tied"], found["missing"]) == (False, [])
