"""Every export holds what its reader indexes by, and is derived from the one list of kept ids."""

import argparse
import json
import shlex
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
from drafters.export.common import ExportError, ExportRequest, filled
from drafters.export.kept_ids import from_mask, from_offsets, target_ids, to_mask, to_offsets
from drafters.io.hub import local_source
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
    """Writes one export into an empty folder; the drafter before pruning is the fixture's own model, saved."""

    def run(name: str, form: str | None = None, full=tools.make_model, change=lambda folder: None):
        out, before = tmp_path / f"{name}-{form}", tmp_path / f"{name}-{form}-drafter"
        out.mkdir()
        full().save_pretrained(before)
        tools.make_tokenizer().save_pretrained(before)
        change(before)
        request = ExportRequest(packaged, original, lambda: local_source(before, "drafter"), out)
        return out, export(request, name, form)

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


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_padded_keeps_the_drafters_dtype(request_for, tools, dtype):
    out, _ = request_for("vllm", "padded", lambda: tools.make_model(64).to(dtype))
    assert {tensor.dtype for tensor in load_file(out / "model.safetensors").values()} == {dtype}
    assert json.loads((out / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")


def test_full_keeps_the_packages_dtype(tools, tmp_path):
    half = tools.make_model().to(torch.bfloat16)
    half.save_pretrained(tmp_path / "drafter")
    folder = tools.write(tmp_path / "package", slots=False, model=half)
    (tmp_path / "out").mkdir()
    drafter = lambda: local_source(tmp_path / "drafter", "drafter")  # noqa: E731
    export(ExportRequest(load(folder, device="cpu", dtype="fp32"), folder, drafter, tmp_path / "out"), "vllm")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in found.values()} == {torch.bfloat16}
    kept = load_file(folder / "model.safetensors")["lm_head.weight"]
    rows = {tuple(row) for row in found["lm_head.weight"].tolist()}
    assert {tuple(row) for row in kept.tolist()} <= rows, "rows were rounded"


@pytest.mark.parametrize("rows", [48, 64])
def test_the_tied_flag_says_what_the_weights_are(request_for, tools, rows):
    """A merged adapter's folder: the config says tied, the file has a head of its own. SGLang would drop that head."""
    tie = lambda folder: edit(folder / "config.json", tie_word_embeddings=True)  # noqa: E731
    with pytest.warns(UserWarning, match=r"drafter: config\.json has tie_word_embeddings=True, but .* two tensors"):
        out, _ = request_for("sglang", "padded", lambda: tools.make_model(rows), tie)
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is False
    assert "lm_head.weight" in load_file(out / "model.safetensors")
    out, _ = request_for("transformers", "padded", lambda: tools.make_model(rows, tied=True))
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is True


def test_padded_copies_the_tokenizer_byte_for_byte(request_for):
    written = {}

    def dress(folder: Path) -> None:
        (folder / "tokenizer.model").write_bytes(b"\x0a\x01pieces")
        config = json.loads((folder / "tokenizer_config.json").read_text()) | {
            "tokenizer_class": "PreTrainedTokenizerFast"
        }
        for note in ("is_local", "local_files_only", "name_or_path"):
            config.pop(note, None)
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=7))
        written.update({name: (folder / name).read_bytes() for name in TOKENIZER})

    out, _ = request_for("vllm", "padded", change=dress)
    assert {name: (out / name).read_bytes() for name in TOKENIZER} == written


TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")


def test_files_are_for_every_reader(request_for, packaged):
    out, _ = request_for("vllm", "full")
    assert {oct(path.stat().st_mode & 0o777) for path in out.iterdir()} == {"0o644"}
    config = json.loads((out / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert not set(config) & {"is_local", "local_files_only", "extra_special_tokens"}
    generation = json.loads((out / "generation_config.json").read_text())
    assert (generation["num_assistant_tokens"], generation["num_assistant_tokens_schedule"]) == (5, "constant")
    assert generation["assistant_confidence_threshold"] == 0


def test_vllm(request_for):
    _, full = request_for("vllm", "full")
    _, padded = request_for("vllm", "padded")
    words = shlex.split(filled(full.serve, 5, "org/target", "/exports/a"))
    assert words[:3] == ["vllm", "serve", "org/target"]
    assert json.loads(words[4]) == {
        "method": "draft_model", "model": "/exports/a", "num_speculative_tokens": 5, "use_heterogeneous_vocab": True,
        "draft_sample_method": "greedy",
    }  # fmt: skip
    assert "use_heterogeneous_vocab" not in padded.serve
    assert "VLLM_USE_V2_MODEL_RUNNER" in " ".join(full.limits)
    for done in (full, padded):
        assert "tensor parallel" in " ".join(done.limits)
        assert "64 positions" in " ".join(done.limits)


def sglang_arguments(command: str) -> argparse.Namespace:
    """SGLang 0.5.23's rule (srt/arg_groups/speculative_hook.py, `_handle_eagle_family`): the three together or not at all."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "sglang.launch_server"]
    parser = argparse.ArgumentParser(exit_on_error=False)
    for name in ("model-path", "speculative-algorithm", "speculative-draft-model-path", "speculative-token-map"):
        parser.add_argument(f"--{name}")
    for name in ("num-steps", "eagle-topk", "num-draft-tokens"):
        parser.add_argument(f"--speculative-{name}", type=int)
    found = parser.parse_args(words[3:])
    if found.speculative_num_steps is None:
        assert found.speculative_eagle_topk is None, "top-k without steps"
        assert found.speculative_num_draft_tokens is None, "draft tokens without steps"
    else:
        assert found.speculative_eagle_topk == 1, "a chain"
        assert found.speculative_num_draft_tokens == found.speculative_num_steps + 1
    return found


def test_sglang(request_for, packaged):
    out, done = request_for("sglang")
    found = torch.load(out / "hot_tokens.pt", weights_only=True)
    assert torch.tensor(found, dtype=torch.int64).tolist() == packaged.kept.tolist()
    assert sglang_arguments(filled(done.serve, 5, "t")).speculative_algorithm == "EAGLE"
    said = " ".join(done.limits)
    assert all(words in said for words in ("EAGLE-3", "tensor parallelism", "--speculative-use-rejection-sampling"))
    _, padded = request_for("sglang", "padded")
    found = sglang_arguments(filled(padded.serve, 5, "t"))
    assert (found.speculative_algorithm, found.speculative_num_steps) == ("STANDALONE", 5)
    assert "64 positions; a target of more: SGLang refuses" in " ".join(padded.limits)
    with pytest.raises(AssertionError, match="without steps"):
        sglang_arguments(filled(padded.serve, 5, "t").replace("--speculative-num-steps 5 ", ""))


def test_speculators(request_for, packaged, tools):
    out, _ = request_for("speculators")
    size = len(packaged.kept)  # the names that its trainer finds by --draft-vocab-size
    d2t, t2d = np.load(out / f"d2t-{size}.npy"), np.load(out / f"t2d-{size}.npy")
    assert (d2t.dtype, t2d.dtype, len(t2d)) == (np.int64, np.bool_, tools.vocabulary)
    assert (d2t + np.arange(len(d2t))).tolist() == packaged.kept.tolist() == np.flatnonzero(t2d).tolist()
    both = load_file(out / "maps.safetensors")
    assert (both["d2t"].tolist(), both["t2d"].tolist()) == (d2t.tolist(), t2d.tolist())


def test_what_is_not_possible_is_refused_with_the_reason(packaged):
    for found in FORMATS.values():
        assert set(found.forms).isdisjoint(found.refused)
        for form, reason in found.refused.items():
            with pytest.raises(ExportError, match="not possible today") as caught:
                choose(found.name, form)
            assert reason in str(caught.value)
    for name, form in (("onnx", None), (None, None), ("gguf_map", None), ("vllm", "gguf"), ("transformers", "map")):
        with pytest.raises(ExportError, match="expected one of"):
            choose(name, form)
    assert [choose(name, None)[1] for name in FORMATS] == ["full", "full", "map", "map"]


def test_every_export_says_what_it_is(request_for, packaged):
    for name, found in FORMATS.items():
        out, done = request_for(name, next(iter(found.forms)))
        note = json.loads((out / catalog.NOTE).read_text())
        assert note["package"] == packaged.manifest.key
        assert (note["to"], note["serve_template"], note["limits"]) == (name, done.serve, list(done.limits))
        assert note["serve"] == filled(done.serve, 5, "org/target")
        assert "LENGTH" not in note["serve"]
        assert "TARGET" not in note["serve"].replace("TRAINED", "")
        assert done.checked
        assert "trust" not in done.serve


def test_a_foreign_drafter_cannot_be_padded(packaged, original, tmp_path, tools, monkeypatch):
    monkeypatch.setitem(packaged.description, "foreign", True)
    with pytest.raises(ExportError, match="another one: use form=full"):
        export(ExportRequest(packaged, original, lambda: local_source(tmp_path, "none"), tmp_path), "vllm", "padded")


def test_sampling_with_a_foreign_drafter_is_said_to_be_not_lossless(request_for, packaged, monkeypatch):
    assert (
        request_for("transformers")[1]
        .limits[0]
        .startswith("Greedy only: with do_sample=True transformers 5.23 and 5.24 raise")
    )
    monkeypatch.setitem(packaged.description, "foreign", True)
    assert "THAT IS NOT LOSSLESS" in request_for("transformers", "full")[1].limits[0]


def test_a_command_is_filled_in_one_pass():
    text = 'serve TARGET -m DIR -n LENGTH -k LENGTH+1 {"n": "LENGTH"}'
    assert filled(text, 4, "/a/DIR/LENGTH", "/TARGET") == 'serve /a/DIR/LENGTH -m /TARGET -n 4 -k 5 {"n": 4}'


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
    export(ExportRequest(package, folder, lambda: local_source(ZOO / "drafter", "drafter"), out), "transformers")
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
    assert sizes[0] < 2 * sizes[1]  # the package is in fp32, the drafter in bf16: less than half the numbers


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


def test_sampling_with_a_subset_of_the_vocabulary_fails_loudly(embedded, target):
    """transformers 5.23 samples by another law where the drafter's vocabulary has a token that the target's lacks."""
    _, out = embedded
    small, own = AutoModelForCausalLM.from_pretrained(out).eval(), AutoTokenizer.from_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(ZOO / "target")
    assert set(own.get_vocab()) <= set(tokenizer.get_vocab())
    inputs = tokenizer("class Reader:\n", return_tensors="pt")
    tokenizers = {"tokenizer": tokenizer, "assistant_tokenizer": own}
    with pytest.raises(AttributeError, match="assistant_overlap_token_ids"):
        target.generate(**inputs, do_sample=True, max_new_tokens=8, pad_token_id=0, assistant_model=small, **tokenizers)
