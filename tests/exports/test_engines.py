"""vLLM, SGLang and speculators: their own code opens what was written, and the commands that are printed."""

import json
import shlex

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from drafters.export.common import filled
from tests.exports.conftest import KEPT
from tests.exports.releases import READERS, run


def command(folder, target) -> list[str]:
    """The words of an export's serve command, as it is printed."""
    note = json.loads((folder / "export.json").read_text())
    return shlex.split(filled(note["serve_template"], note["lookahead"], str(target), str(folder)))


@pytest.mark.parametrize("form", ["full", "padded"])
def test_vllm(vllm, pycode, target, form, tmp_path):
    folder, out = pycode / f"vllm-{form}", tmp_path / "tables.safetensors"
    words = command(folder, target)
    assert words[:4] == ["vllm", "serve", str(target), "--speculative-config"]
    found, tables = run(vllm, "open_vllm.py", target, words[4], out), load_file(out)
    assert (found["version"], found["dtype"], found["tokens"], found["context"]) == ("0.33.0", "torch.bfloat16", 5, 512)
    written = load_file(folder / "model.safetensors")
    assert torch.equal(tables["table"], written["model.embed_tokens.weight"])
    assert torch.equal(tables["head"], written.get("lm_head.weight", written["model.embed_tokens.weight"]))
    assert torch.equal(tables["norm"], written["model.norm.weight"])
    if form == "padded":
        assert found["rows"] == 16384
        return
    vocabulary = AutoTokenizer.from_pretrained(target).get_vocab()
    expected = [vocabulary.get(token, -1) for token in found["draft_strings"]]
    assert tables["to_target"].tolist() == expected, "its map of tokens is not the one that was kept"
    assert set(range(KEPT)) <= set(expected)
    assert (expected.index(-1), found["unk"]) == (len(expected) - 1, len(expected) - 1), (
        "only the placeholder has no counterpart"
    )


def test_vllm_still_knows_no_token_map(vllm, pycode, target, tmp_path):
    """Why form=map is refused: when this fails, a release reads one."""
    options = json.loads(command(pycode / "vllm-padded", target)[4]) | {"draft_token_map": "x"}
    with pytest.raises(AssertionError, match=r"draft_token_map\s+Unexpected keyword argument"):
        run(vllm, "open_vllm.py", target, json.dumps(options), tmp_path / "tables")


def test_sglang(pycode, target):
    words = command(pycode / "sglang-padded", target)
    assert words[:3] == ["python", "-m", "sglang.launch_server"]
    tokens = pycode / "sglang-map" / "hot_tokens.pt"
    found = run(READERS["sglang"], "open_sglang.py", target, tokens, json.dumps(words[3:]))
    assert found["version"] == "0.5.23"
    assert found["map"] == list(range(KEPT))
    assert (found["flags"], found["without_steps"]) == ([5, 1, 6], "AssertionError")
    assert found["dtypes"] == ["torch.bfloat16"] * 2
    assert found["rows"] == [16384] * 2
    assert (found["context"], found["longer_target"]) == (512, "ValueError"), "what limits say of its context"
    assert found["tied"] == ("lm_head.weight" not in load_file(pycode / "sglang-padded" / "model.safetensors"))


def test_speculators(pycode):
    folder = pycode / "speculators-map"
    found = run(READERS["speculators"], "open_speculators.py", folder, KEPT, 16384)
    assert (found["version"], found["size"]) == ("0.9.0", KEPT)
    assert (
        found["ids"]
        == found["kept"]
        == list(range(KEPT))
        == np.flatnonzero(np.load(folder / f"t2d-{KEPT}.npy")).tolist()
    )
