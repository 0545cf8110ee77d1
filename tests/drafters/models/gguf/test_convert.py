"""What becomes of a GGUF: the model that it was written from, its tokenizer, and by name what cannot be read."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from drafters.models.gguf import convert
from drafters.models.gguf.cache import resolve_model
from drafters.models.gguf.header import GgufHeader, GgufTensor, read_gguf_header
from drafters.models.model_folder import PATTERNS
from drafters.models.pair import load_pair, open_checkpoint
from drafters.package_error import PackageError
from drafters.rounding import excess, logits_bound
from tests.drafters.conftest import VOCABULARY, make_model, make_tokenizer
from tests.drafters.models.gguf.gguf_files import STRING, TEMPLATE, UINT32, plain, stored, tensors, text, tiny

reads = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in convert.NEEDED),
    reason="needs gguf and accelerate: .venv/bin/pip install -c constraints.txt -e '.[gguf]'",
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAFTERS_CACHE", str(tmp_path / "cache"))


@reads
def test_the_model_that_it_was_written_from(tmp_path: Path) -> None:
    file = tiny(tmp_path / "tiny.gguf")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/other"}')  # has no say
    (tmp_path / "tokenizer_config.json").write_text("{")
    expected, ids = make_model(), torch.arange(VOCABULARY).unsqueeze(0)
    pair = load_pair(target=file, drafter=file, device="cpu", dtype="fp32")
    with torch.no_grad():
        logits, wanted = (model(input_ids=ids).logits for model in (pair.target, expected))
    assert excess(logits, wanted, logits_bound(expected, ids)) <= 1
    assert pair.target.config.max_position_embeddings == 64
    tokenizer = pair.target_tokenizer
    assert tokenizer.get_vocab() == make_tokenizer().get_vocab() | {"<|endoftext|>": VOCABULARY}  # its class adds one
    assert tokenizer.encode("CAB5", add_special_tokens=False) == make_tokenizer().encode(
        "CAB5", add_special_tokens=False
    )
    assert tokenizer.chat_template == TEMPLATE
    assert pair.eos == (2,)
    checked = open_checkpoint("target", {"target": file, "target_revision": None})
    assert checked.notes == ()  # nothing in the folder that nobody reads
    assert {info.dtype for info in checked.tensors.values()} == {"F32"}


@reads
def test_quantised_weights_are_unpacked(tmp_path: Path) -> None:
    from gguf import GGMLQuantizationType, quants

    # A row must be a multiple of 32 numbers: the feed-forward layers get 32 units instead of 24.
    weights, kind = tensors(make_model()), GGMLQuantizationType.Q8_0
    down = weights["blk.0.ffn_down.weight"]
    wide = np.concatenate([down, down[:, :8]], axis=1)
    packed = quants.quantize(wide, kind)
    assert np.abs(quants.dequantize(packed, kind) - wide).max() < 0.01
    held = {"blk.0.ffn_down.weight": ((32, 16), int(kind), packed.tobytes())}
    for name in ("ffn_gate", "ffn_up"):
        data = weights[f"blk.0.{name}.weight"]
        held[f"blk.0.{name}.weight"] = stored(np.concatenate([data, data[:8]]))
        other = weights[f"blk.1.{name}.weight"]
        held[f"blk.1.{name}.weight"] = stored(np.concatenate([other, other[:8]]))
    other = weights["blk.1.ffn_down.weight"]
    held["blk.1.ffn_down.weight"] = stored(np.concatenate([other, other[:, :8]], axis=1))
    file = tiny(tmp_path / "tiny.gguf", {"llama.feed_forward_length": (UINT32, plain(UINT32, 32))}, **held)
    pair = load_pair(target=file, drafter=file, device="cpu", dtype="fp32")
    got = pair.target.model.layers[0].mlp.down_proj.weight.detach().numpy()
    unpacked = torch.from_numpy(quants.dequantize(packed, kind).copy()).to(torch.bfloat16).float().numpy()
    assert np.array_equal(got, unpacked)  # a file with quantised weights becomes bf16


@reads
@pytest.mark.parametrize(
    ("keys", "held", "said"),
    [
        ({"general.architecture": (STRING, text("clip"))}, {}, r"clip in F32"),
        ({"llama.block_count": (UINT32, plain(UINT32, 3))}, {}, "weights of its config"),
        ({"llama.embedding_length": (UINT32, plain(UINT32, 1 << 16))}, {}, "weights of its config"),
        ({"tokenizer.ggml.model": (STRING, text("none"))}, {}, "general.architecture"),
        ({}, {"output_norm.weight": stored(np.full(16, np.nan))}, "finite"),
        ({}, {"blk.1.attn_q.weight": stored(np.zeros((8, 32)))}, "another shape|general.architecture"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, keys: dict[str, Any], held: dict[str, Any], said: str) -> None:
    with pytest.raises(PackageError, match=said) as caught:
        resolve_model(tiny(tmp_path / "tiny.gguf", keys, **held), None, PATTERNS, "")
    assert caught.value.fix
    assert not [path for path in (tmp_path / "cache" / "gguf").iterdir() if path.is_dir()]


@reads
def test_planted_bug_a_weight_that_is_lost_in_saving_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*arguments: Any) -> Any:
        model = opened(*arguments)
        with torch.no_grad():
            model.model.layers[0].mlp.up_proj.weight[0, 0] += 1.0
        return model

    opened = convert.open_model
    monkeypatch.setattr(convert, "open_model", damaged)
    with pytest.raises(PackageError, match=r"layers\.0\.mlp\.up_proj\.weight: expected the weights that were read"):
        resolve_model(tiny(tmp_path / "tiny.gguf"), None, PATTERNS, "")


def test_the_precision_follows_what_the_file_holds() -> None:
    def dtype(*types: str) -> torch.dtype:
        return convert.dtype_of(GgufHeader({}, {name: GgufTensor(name, 1, 1) for name in types}))

    assert dtype("F32") == dtype("F32", "F16") == torch.float32
    assert dtype("F32", "BF16") == dtype("F32", "Q4_1", "Q8_0") == torch.bfloat16


def test_the_written_file_is_a_sound_one(tmp_path: Path) -> None:
    """What the other tests rest on, also where nothing reads it further."""
    assert len(read_gguf_header(tiny(tmp_path / "tiny.gguf")).tensors) == len(tensors(make_model()))
