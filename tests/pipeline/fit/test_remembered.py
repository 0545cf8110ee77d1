"""A model that reads a window once says what the model itself says, also where something follows its head."""

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from drafters.models.forms import pruned_form
from pipeline.fit.remembered import Remembered

SIZES = {
    "vocab_size": 24, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 32,
}  # fmt: skip


def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES)).eval().requires_grad_(False)


def capped():
    torch.manual_seed(0)
    return Gemma2ForCausalLM(Gemma2Config(**SIZES, final_logit_softcapping=0.05)).eval().requires_grad_(False)


@pytest.mark.parametrize(("make", "reads"), [(llama, 2), (capped, 6)])
def test_logits_are_the_models_own_and_a_bare_head_reads_a_window_once(make, reads):
    model, calls = make(), []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    rows = torch.randint(24, (2, 9))
    wide = model(input_ids=rows, use_cache=False).logits
    calls.clear()
    known, places = Remembered(model), torch.tensor([1, 4, 7])
    for number in (0, 1):
        torch.testing.assert_close(known.logits(rows[number], places), wide[number, places])
        torch.testing.assert_close(known.logits(rows[number], places), wide[number, places])
    assert len(calls) == reads  # behind a soft cap once for the window, and for each pass
    torch.testing.assert_close(known(input_ids=rows).logits, wide)


def test_another_head_of_the_network_reads_the_same_hidden_states():
    model, ids = llama(), torch.randint(24, (9,))
    form = pruned_form(model, torch.arange(0, 24, 3))
    found = Remembered(model).logits(ids, torch.arange(9), form)
    torch.testing.assert_close(found, form(input_ids=ids.unsqueeze(0), use_cache=False).logits[0])
    assert found.shape == (9, 8)
