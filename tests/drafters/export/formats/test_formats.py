"""Every export holds what its reader indexes by, and is derived from the one list of kept ids."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import drafters
from drafters.export import catalog, checkpoint
from drafters.export.catalog import FORMATS, choose, export
from drafters.export.common import ExportError, ExportRequest, with_length
from drafters.export.formats import gguf_map
from drafters.export.kept_ids import from_mask, from_offsets, target_ids, to_mask, to_offsets
from drafters.package.reader import load
from drafters.package.writer import Origin, describe
from drafters.rounding import excess, logits_bound
from drafters.vocab.alignment import VocabMap, identity, restrict

IDS = torch.tensor([[1, 7, 20, 33]])


@pytest.fixture(scope="module")
def packaged(original):
    return load(original, device="cpu")


@pytest.fixture
def request_for(packaged, original, tools, tmp_path):
    """Writes one export into an empty folder; the drafter before pruning is the fixture's own model."""

    def run(name: str, form: str | None = None, full=tools.make_model):
        out = tmp_path / f"{name}-{form}"
        out.mkdir()
        return out, export(ExportRequest(packaged, original, full, out), name, form)

    return run


@given(st.sets(st.integers(0, 299), min_size=1))
def test_offsets_absolute_ids_and_masks_say_the_same(chosen):
    ids = torch.tensor(sorted(chosen))
    assert torch.equal(from_offsets(to_offsets(ids)), ids)
    assert torch.equal(from_mask(to_mask(ids, 300)), ids)
    assert (to_offsets(ids) >= 0).all()
    assert (to_offsets(ids).diff() >= 0).all()


def test_the_dialects_by_hand():
    ids = torch.tensor([3, 5, 6, 10])
    assert to_offsets(ids).tolist() == [3, 4, 4, 7]  # target id = i + d2t[i]
    assert to_mask(ids, 12).tolist() == [i in (3, 5, 6, 10) for i in range(12)]


def test_a_foreign_drafters_list_is_of_target_ids(packaged):
    class Foreign:
        vocab = VocabMap(torch.tensor([60, -1, 7, 60]), torch.empty(0))

    assert target_ids(Foreign()).tolist() == [7, 60]
    assert target_ids(packaged).tolist() == packaged.kept.tolist()


@pytest.mark.floats
def test_transformers_full(request_for, tools, packaged):
    out, done = request_for("transformers")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out).eval(), AutoTokenizer.from_pretrained(out)
    full, original = tools.make_model(), tools.make_tokenizer()
    assert sorted(path.name for path in out.iterdir() if path.suffix in (".py", ".pt", ".bin")) == []
    ids = torch.tensor(
        [original.get_vocab()[token] for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
    )
    assert ids.tolist() == sorted(set(ids.tolist()))
    assert set(packaged.kept.tolist()) <= set(ids.tolist())
    assert model.config.vocab_size == len(ids) == len(tokenizer)
    rows = torch.arange(5).unsqueeze(0)
    with torch.inference_mode():
        assert excess(model(rows).logits, full(ids[rows]).logits[..., ids], logits_bound(model, rows)) <= 1
    assert ids[model.config.eos_token_id] == full.config.eos_token_id
    assert ids[model.generation_config.bos_token_id] == full.generation_config.bos_token_id
    assert "Greedy only" in " ".join(done.limits)
    assert (out / "LICENSE").read_text() == "MIT\n"


@pytest.mark.floats
def test_the_load_check_sees_rows_in_another_order(request_for, monkeypatch):
    """The planted bug: rows that follow the iteration order of a dictionary."""
    real = checkpoint.small_model
    monkeypatch.setattr(checkpoint, "small_model", lambda p, f, ids, placeholder: real(p, f, ids.flip(0), placeholder))
    with pytest.raises((RuntimeError, ValueError), match=r"logits are off|token_id"):
        request_for("transformers")


@pytest.mark.floats
@pytest.mark.parametrize("name", ["transformers", "vllm", "sglang"])
def test_padded(request_for, tools, name):
    out, done = request_for(name, "padded", lambda: tools.make_model(64))
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.config.vocab_size == tools.vocabulary
    expected = tools.make_model(64)(IDS).logits[..., : tools.vocabulary]
    assert excess(model(IDS).logits, expected, logits_bound(model, IDS)) <= 1
    assert "64 before" in done.checked


def test_vllm(request_for, packaged):
    out, done = request_for("vllm", "map")
    assert json.loads((out / "draft_token_map.json").read_text()) == packaged.kept.tolist()
    _, full = request_for("vllm", "full")
    options = json.loads(with_length(full.serve, 5).partition("--speculative-config ")[2].strip("'"))
    assert options["use_heterogeneous_vocab"] is True
    assert (options["method"], options["draft_sample_method"], options["num_speculative_tokens"]) == (
        "draft_model",
        "greedy",
        5,
    )
    assert full.serve.startswith("vllm serve org/target ")
    assert "draft_token_map" in done.serve


def test_sglang(request_for, packaged):
    out, done = request_for("sglang")
    found = torch.load(out / "hot_tokens.pt", weights_only=True)
    assert torch.tensor(found, dtype=torch.int64).tolist() == packaged.kept.tolist()
    assert "--speculative-algorithm EAGLE " in done.serve
    assert "--trust-remote-code" not in done.serve


def test_speculators(request_for, packaged, tools):
    out, _ = request_for("speculators")
    d2t, t2d = np.load(out / "d2t.npy"), np.load(out / "t2d.npy")
    assert (d2t.dtype, t2d.dtype, len(t2d)) == (np.int64, np.bool_, tools.vocabulary)
    assert (d2t + np.arange(len(d2t))).tolist() == packaged.kept.tolist() == np.flatnonzero(t2d).tolist()
    both = load_file(out / "maps.safetensors")
    assert (both["d2t"].tolist(), both["t2d"].tolist()) == (d2t.tolist(), t2d.tolist())


def test_gguf(request_for, packaged):
    out, _ = request_for("gguf_map")
    raw = (out / "d2t.gguf").read_bytes()
    assert struct.unpack_from("<4sIQQ", raw) == (b"GGUF", 3, 1, 1)
    assert len(raw) % 32 == 0
    # Absolute ids, little-endian, at the aligned end of the header: read here without the module's own reader.
    data = np.frombuffer(
        raw, "<i8", offset=len(raw) - (-(-8 * len(packaged.kept) // 32) * 32), count=len(packaged.kept)
    )
    assert data.tolist() == packaged.kept.tolist()
    (out / "other").write_bytes(raw.replace(b"GGUF", b"GGML"))
    with pytest.raises(RuntimeError, match="GGUF 3"):
        gguf_map.read_ids(out / "other")


def test_what_is_not_possible_is_refused_with_the_reason(packaged):
    for found in FORMATS.values():
        assert set(found.forms).isdisjoint(found.refused)
        for form, reason in found.refused.items():
            with pytest.raises(ExportError, match="not possible today") as caught:
                choose(found.name, form)
            assert reason in str(caught.value)
    for name, form in (("onnx", None), (None, None), ("vllm", "gguf"), ("transformers", "map")):
        with pytest.raises(ExportError, match="expected one of"):
            choose(name, form)
    assert [choose(name, None)[1] for name in FORMATS] == ["full", "full", "map", "map", "map"]


def test_every_export_says_what_it_is(request_for, packaged):
    for name, found in FORMATS.items():
        out, done = request_for(name, next(iter(found.forms)))
        note = json.loads((out / catalog.NOTE).read_text())
        assert note["package"] == packaged.manifest.key
        assert (note["to"], note["serve_template"], note["limits"]) == (name, done.serve, list(done.limits))
        assert note["serve"] == with_length(done.serve, 5)
        assert "LENGTH" not in note["serve"]
        assert done.checked
        assert "trust" not in done.serve


def test_a_foreign_drafter_cannot_be_padded(packaged, original, tmp_path, tools, monkeypatch):
    monkeypatch.setitem(packaged.description, "foreign", True)
    with pytest.raises(ExportError, match="another one: use form=full"):
        export(ExportRequest(packaged, original, tools.make_model, tmp_path), "vllm", "padded")


# --- the embedded pair, whose tokenizer has merges -------------------------------------------------------------------

ZOO = Path(drafters.__file__).parent / "zoo" / "pycode"
STRANGE = "def f(x):\n\treturn x ** 2  # naïve\n你好 日本語 한국어 🎉👩‍👧🇩🇪\n"


@pytest.fixture(scope="module")
def embedded(tmp_path_factory, tools):
    """Package of the embedded drafter with 1,500 kept tokens, and its full export."""
    folder, out = tmp_path_factory.mktemp("embedded") / "package", tmp_path_factory.mktemp("embedded-export")
    kept = torch.arange(1500)
    origin = [Origin(f"zoo/{role}", None, "apache-2.0", 16384) for role in ("target", "drafter")]
    tools.write(
        folder, slots=False, kept=kept, vocab=restrict(identity(16384), kept),
        model=AutoModelForCausalLM.from_pretrained(ZOO / "drafter", dtype=torch.float32),
        tokenizer=AutoTokenizer.from_pretrained(ZOO / "drafter"),
        description=describe("pycode", *origin, kept=1500, foreign=False, eos=(0,)),
    )  # fmt: skip
    package = load(folder, device="cpu")
    full = lambda: AutoModelForCausalLM.from_pretrained(ZOO / "drafter", dtype=torch.float32)  # noqa: E731
    export(ExportRequest(package, folder, full, out), "transformers")
    return package, out


@pytest.fixture(scope="module")
def target():
    return AutoModelForCausalLM.from_pretrained(ZOO / "target", dtype=torch.float32).eval()


def test_the_embedded_drafter_gets_small_and_spells_everything(embedded):
    package, out = embedded
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert 1500 < len(tokenizer) < 4000
    assert tokenizer.decode(tokenizer(STRANGE)["input_ids"]) == STRANGE
    assert package.tokenizer.decode(package.tokenizer(STRANGE)["input_ids"]) == STRANGE
    sizes = [path.stat().st_size for path in (out / "model.safetensors", ZOO / "drafter" / "model.safetensors")]
    assert sizes[0] < 2 * sizes[1]  # fp32 against bf16: less than half the numbers


def test_both_draft_in_stock_transformers_greedy_identical(embedded, target):
    package, out = embedded
    small, own = AutoModelForCausalLM.from_pretrained(out).eval(), AutoTokenizer.from_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(ZOO / "target")
    inputs = tokenizer("class Reader:\n    def __init__(self, path):\n", return_tensors="pt")
    options = {"max_new_tokens": 16, "do_sample": False, "pad_token_id": 0}
    plain = target.generate(**inputs, **options)
    calls = []
    for drafter, tokenizers in (
        (small, {"tokenizer": tokenizer, "assistant_tokenizer": own}),
        (package.model, {}),
    ):
        drafter.generation_config.num_assistant_tokens = 4
        handle = drafter.register_forward_hook(lambda *args: calls.append(1))
        assert torch.equal(target.generate(**inputs, **options, **tokenizers, assistant_model=drafter), plain)
        handle.remove()
        assert calls, "it did not draft"
        calls.clear()
