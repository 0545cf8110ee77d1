"""Head surgery on every supported class: kept logits are the full model's, exactly; nothing else changes.

BLAS sums in an order that depends on the number of rows and on where in memory they lie (weights loaded from a file are
mapped at other addresses than allocated ones), so two heads over the same rows may differ in the last bits whatever we do.
Exactness is therefore tested where no order can matter: hidden states and head on a grid of 1/64 make every product and
partial sum exact in fp32. Weights as they are must be equal, and their logits agree within the bounds of `drafters.rounding`.
"""

import copy
import json

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from drafters.models.heads import PrunedHead, PruneError
from drafters.models.prune import load_pruned, prune_head, save_pruned
from drafters.rounding import excess, logits_bound

pytestmark = pytest.mark.floats
V, H = 97, 32
BASE = {
    "vocab_size": V, "hidden_size": H, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 64, "initializer_range": 0.15, "pad_token_id": None,
}  # fmt: skip
GPT = {"vocab_size": V, "n_embd": H, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.15}
OPT = {
    "vocab_size": V, "hidden_size": H, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64, "init_std": 0.15, "word_embed_proj_dim": H,
}  # fmt: skip
CONFIGS = {
    "llama": ("LlamaConfig", BASE),
    "llama-tied": ("LlamaConfig", BASE | {"tie_word_embeddings": True}),
    "qwen2": ("Qwen2Config", BASE),
    "qwen2-tied": ("Qwen2Config", BASE | {"tie_word_embeddings": True}),
    "mistral": ("MistralConfig", BASE),
    "gemma": ("GemmaConfig", BASE | {"head_dim": 8}),  # tied
    "gemma2": ("Gemma2Config", BASE | {"head_dim": 8, "final_logit_softcapping": 3.0}),  # tied, soft cap
    "gpt2": ("GPT2Config", GPT),  # tied
    "gpt-neox": ("GPTNeoXConfig", BASE),  # its head has another name on disk
    "gpt-bigcode": ("GPTBigCodeConfig", GPT),  # tied
    "opt": ("OPTConfig", OPT),  # tied
    "phi": ("PhiConfig", BASE),  # bias
    "bitnet": ("BitNetConfig", BASE),
    "granite": ("GraniteConfig", BASE | {"logits_scaling": 4.0}),
    "cohere": ("CohereConfig", BASE | {"logit_scale": 0.25}),  # tied, scale
}
INPUTS = [torch.arange(n).reshape(shape) * 7 % V for n, shape in ((1, (1, 1)), (9, (1, 9)), (15, (3, 5)))]


def build(name: str, seed: int = 0):
    config, arguments = CONFIGS[name]
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(getattr(transformers, config)(**arguments)).eval()
    head = model.get_output_embeddings()
    if head.bias is not None:
        head.bias.data.normal_()
    return model


def kept_ids(size: int, seed: int = 0) -> Tensor:
    return torch.randperm(V, generator=torch.Generator().manual_seed(seed))[:size].sort().values


def on_grid(model):
    """Round what enters the head to multiples of 1/64."""
    model.get_output_embeddings().register_forward_pre_hook(lambda module, args: ((args[0] * 64).round() / 64,))
    return model


def logits(model, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


@pytest.mark.parametrize("name", CONFIGS)
def test_kept_logits_are_the_full_models_exactly(name):
    model = build(name)
    for parameter in model.get_output_embeddings().parameters():
        parameter.data = (parameter.data * 64).round().clamp(-64, 64) / 64
    full = [logits(on_grid(copy.deepcopy(model)), ids) for ids in INPUTS]
    assert any((out != out[..., :1]).any() for out in full)
    for size in (1, 3, 24, 50, V - 1, V):
        kept = kept_ids(size)
        short = on_grid(prune_head(copy.deepcopy(model), kept))
        wide = on_grid(prune_head(copy.deepcopy(model), kept, scatter=True))
        dropped = torch.ones(V, dtype=torch.bool).index_fill(0, kept, False)
        for ids, expected in zip(INPUTS, full, strict=True):
            assert torch.equal(logits(short, ids), expected[..., kept])
            spread = logits(wide, ids)
            assert torch.equal(spread[..., kept], expected[..., kept])
            assert (spread[..., dropped] == -torch.inf).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_kept_logits_of_any_weights_agree_to_rounding_in_fp64(name):
    model = build(name).double()
    kept = kept_ids(24)
    pruned = prune_head(copy.deepcopy(model), kept)
    for ids in INPUTS:
        full = logits(model, ids)[..., kept]
        assert full.dtype == torch.float64
        assert excess(logits(pruned, ids), full, logits_bound(pruned, ids)) <= 1


@pytest.mark.parametrize("name", CONFIGS)
def test_the_head_holds_copies_of_the_kept_rows_and_the_rest_is_untouched(name):
    model = build(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    rows = copy.deepcopy(model.get_output_embeddings())
    kept = kept_ids(24)
    assert prune_head(model, kept) is model
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    assert torch.equal(head.weight, rows.weight[kept])
    assert (head.bias is None) == (rows.bias is None)
    assert head.bias is None or torch.equal(head.bias, rows.bias[kept])
    assert model.config.vocab_size == len(embedding.weight) == V
    model.tie_weights()  # what loading, resizing and saving call: it must not bring the full head back
    assert model.get_output_embeddings() is head
    assert head.weight.shape == (24, H)
    head.weight.data.zero_()
    after = model.state_dict()
    assert not model.config.tie_word_embeddings
    assert set(after) <= set(before)
    for key, value in after.items():
        assert (value.shape[0] == 24 and "head" in key) or torch.equal(value, before[key])


@pytest.mark.parametrize("name", CONFIGS)
def test_a_saved_model_loads_with_its_short_head(name, tmp_path):
    model, kept = build(name), kept_ids(24)
    save_pruned(model, kept, tmp_path)
    expected = [logits(model, ids) for ids in INPUTS]
    weights = load_file(tmp_path / "model.safetensors")
    heads = [key for key, value in weights.items() if value.shape == (24, H)]
    assert len(heads) == 1  # one short head on disk, and no full one beside the embedding
    assert sum(value.shape == (V, H) for value in weights.values()) == 1
    assert torch.equal(load_file(tmp_path / "vocab.safetensors")["kept"], kept)
    assert json.loads((tmp_path / "config.json").read_text())["vocab_size"] == V
    loaded = load_pruned(tmp_path).eval()
    wide = load_pruned(tmp_path, scatter=True).eval()
    for found in (loaded, wide):
        assert all(torch.equal(found.state_dict()[key], value) for key, value in model.state_dict().items())
    for ids, out in zip(INPUTS, expected, strict=True):
        bound = logits_bound(model, ids)
        assert excess(logits(loaded, ids), out, bound) <= 1
        assert excess(logits(wide, ids)[..., kept], out, bound) <= 1
        assert int(logits(wide, ids).isinf().sum()) == ids.numel() * (V - 24)


def test_a_loaded_model_saves_again_to_the_same_bytes(tmp_path):
    save_pruned(build("gpt-neox"), kept_ids(24), tmp_path / "first")
    save_pruned(load_pruned(tmp_path / "first"), kept_ids(24), tmp_path / "second")
    for name in ("model.safetensors", "config.json", "vocab.safetensors"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_a_stored_dtype_is_kept_and_another_can_be_asked_for(tmp_path):
    save_pruned(build("llama").to(torch.bfloat16), kept_ids(8), tmp_path)
    assert load_pruned(tmp_path).get_output_embeddings().weight.dtype == torch.bfloat16
    assert load_pruned(tmp_path, dtype=torch.float32).get_output_embeddings().weight.dtype == torch.float32


def test_a_padded_vocabulary_keeps_its_size():
    """97 rows, of which a tokenizer may use fewer: absolute ids and V stay as the model has them."""
    wide = prune_head(build("llama-tied"), torch.tensor([0, 90]), scatter=True)
    assert logits(wide, INPUTS[1]).shape == (1, 9, V)
    assert logits(wide, torch.tensor([[96]])).shape == (1, 1, V)  # a dropped id can still be fed


def test_the_soft_cap_alone_would_leave_dropped_tokens_possible():
    """The defect the forward hook is for: tanh turns -inf into minus the cap, which is a probability."""
    wide = prune_head(build("gemma2"), kept_ids(24), scatter=True)
    with torch.no_grad():
        unhooked = wide.forward(input_ids=INPUTS[1]).logits
    assert int(unhooked.isfinite().sum()) == unhooked.numel()
    assert int(logits(wide, INPUTS[1]).isfinite().sum()) == 9 * 24
    with torch.no_grad():
        values = wide(input_ids=INPUTS[1], return_dict=False)
    assert torch.equal(values[0], logits(wide, INPUTS[1]))


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(V)), st.sets(st.integers(0, V - 1), min_size=1, max_size=20))
def test_renumbering_the_vocabulary_renumbers_the_logits(new, kept):
    """Rows of embedding and head move together: the model is the same under other names."""
    new = torch.tensor(new)  # old id -> new id
    old, model = torch.tensor(sorted(kept)), build("llama").double()
    moved = copy.deepcopy(model)
    for rows in (moved.get_input_embeddings(), moved.get_output_embeddings()):
        rows.weight.data = rows.weight.data[new.argsort()]
    before = logits(prune_head(model, old), INPUTS[1])
    renumbered, order = new[old].sort()
    after = logits(prune_head(moved, renumbered), new[INPUTS[1]])
    assert excess(after, before[..., order], logits_bound(moved, new[INPUTS[1]])) <= 1
    assert torch.equal(moved.get_output_embeddings().weight, model.get_output_embeddings().weight[order])


def test_gradients_reach_the_kept_rows_only():
    kept = torch.tensor([0, 90, 96])  # 90 and 96 are not among the inputs
    model = prune_head(build("llama-tied"), kept, scatter=True)
    model(input_ids=INPUTS[1]).logits[..., kept].sum().backward()
    assert (model.get_output_embeddings().weight.grad.abs().sum(1) > 0).all()
    embedding = model.get_input_embeddings().weight.grad
    assert (embedding[INPUTS[1].flatten()].abs().sum(1) > 0).all()
    assert embedding[kept[1:]].abs().sum() == 0  # no longer tied to the head


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (torch.tensor([], dtype=torch.int64), "D >= 1"),
        (torch.tensor([1, 2], dtype=torch.int32), "must be int64"),
        (torch.tensor([[1, 2]]), "shape"),
        (torch.tensor([2, 1]), "strictly ascending, got 1 after 2"),
        (torch.tensor([1, 1]), "strictly ascending, got 1 after 1"),
        (torch.tensor([-1, 1]), r"\[0, 97\), got \[-1, 1\]"),
        (torch.tensor([1, 97]), r"\[0, 97\), got \[1, 97\]"),
    ],
)
def test_kept_ids_that_make_no_sense_are_refused(kept, message):
    model = build("llama")
    with pytest.raises(PruneError, match=message):
        prune_head(model, kept)
    assert logits(model, INPUTS[0]).shape[-1] == V


def test_a_model_is_pruned_once_and_saved_as_it_is_pruned(tmp_path):
    model = prune_head(build("llama"), kept_ids(24))
    with pytest.raises(PruneError, match="pruned already, to 24 rows"):
        prune_head(model, kept_ids(8))
    with pytest.raises(PruneError, match="keeps 24 ids that differ from the 8"):
        save_pruned(model, kept_ids(8), tmp_path)


def test_both_forms_of_the_head_alone():
    weight, bias, kept = torch.eye(3)[:2], torch.tensor([10.0, 20.0]), torch.tensor([1, 4])
    hidden = torch.tensor([[[1.0, 2.0, 3.0]]])
    assert PrunedHead(weight, bias, kept, 6)(hidden).tolist() == [[[11.0, 22.0]]]
    none = -torch.inf
    assert PrunedHead(weight, bias, kept, 6, scatter=True)(hidden).tolist() == [[[none, 11.0, none, none, 22.0, none]]]


def test_a_head_must_fit_its_ids_and_be_linear():
    with pytest.raises(PruneError, match="D=2 rows"):
        PrunedHead(torch.zeros(3, H), None, torch.tensor([0, 1]), V)
    with pytest.raises(PruneError, match="D=2 rows"):
        PrunedHead(torch.zeros(2, H), torch.zeros(3), torch.tensor([0, 1]), V)
    model = build("llama")
    model.set_output_embeddings(torch.nn.Identity())
    with pytest.raises(PruneError, match="linear output head, got Identity"):
        prune_head(model, kept_ids(4))


def test_folders_that_do_not_belong_together_are_refused(tmp_path):
    build("llama").save_pretrained(tmp_path / "full")
    with pytest.raises(PruneError, match=r"holds no vocab\.safetensors"):
        load_pruned(tmp_path / "full")
    save_file({"kept": kept_ids(24)}, tmp_path / "full" / "vocab.safetensors")
    with pytest.raises(PruneError, match="do not fit a head of 24 rows"):
        load_pruned(tmp_path / "full")

    save_pruned(build("llama"), kept_ids(24), tmp_path / "ids")
    save_file({"kept": torch.tensor([3, 200])}, tmp_path / "ids" / "vocab.safetensors")
    with pytest.raises(PruneError, match=r"\[0, 97\)"):
        load_pruned(tmp_path / "ids")

    save_pruned(build("llama"), kept_ids(24), tmp_path / "headless")
    weights = load_file(tmp_path / "headless" / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, tmp_path / "headless" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PruneError, match=r"missing_keys.*lm_head\.weight"):
        load_pruned(tmp_path / "headless")


def test_only_causal_language_models_are_loaded(tmp_path):
    config = transformers.T5Config(vocab_size=V, d_model=H, num_layers=1)
    config.save_pretrained(tmp_path)
    save_file({"kept": kept_ids(24)}, tmp_path / "vocab.safetensors")
    with pytest.raises(PruneError, match="causal LM is expected, got the model type 't5'"):
        load_pruned(tmp_path)
