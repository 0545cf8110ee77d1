"""A cut computes what its target's layers compute: of all layers the target's own logits, in every family."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from pipeline.cut.columns import Head
from pipeline.cut.layers import FAMILIES, choose_layers, cut
from pipeline.errors import ConfigError

CONFIGS = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "gemma": GemmaConfig,
    "gemma2": Gemma2Config,
    "gemma3_text": Gemma3TextConfig,
    "smollm3": SmolLM3Config,
}
KINDS = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
OWN = {
    "mistral": {"sliding_window": 4},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4, "layer_types": KINDS},
    "gemma2": {"sliding_window": 4, "layer_types": KINDS, "final_logit_softcapping": 2.0},
    "gemma3_text": {"sliding_window": 4, "layer_types": KINDS},
    "smollm3": {"no_rope_layers": [1, 0, 1, 0]},
}
IDS = torch.randint(3, 60, (2, 11), generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=FAMILIES)
def target(request):
    shape = {
        "vocab_size": 60, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 32, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2,
    }  # fmt: skip
    torch.manual_seed(0)
    config = CONFIGS[request.param](**shape | OWN.get(request.param, {}))
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for weight in model.parameters():  # far from the near zero of a fresh model, norms included
            weight.add_(0.3 * torch.randn_like(weight))
    return model


def logits(model):
    with torch.inference_mode():
        return model(IDS).logits


def test_a_cut_of_all_layers_is_the_target(target):
    assert torch.equal(logits(cut(target, range(4))), logits(target))


def test_chosen_layers_are_the_targets(target, tmp_path):
    small = cut(target, [1, 2])
    for new, old in enumerate([1, 2]):
        ours, theirs = small.model.layers[new].state_dict(), target.model.layers[old].state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for kind in ("layer_types", "no_rope_layers"):
        if (whole := getattr(target.config, kind, None)) is not None:
            assert getattr(small.config, kind) == whole[1:3]
    # The same as skipping the others in the target, and as its folder says.
    expected = logits(small)
    whole = target.model.layers
    target.model.layers, target.config.num_hidden_layers = whole[1:3], 2
    for layer, number in zip(target.model.layers, (0, 1), strict=True):
        layer.self_attn.layer_idx = number
    if hasattr(small.config, "layer_types"):
        target.config.layer_types = small.config.layer_types
    assert torch.equal(logits(target), expected)
    small.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    assert torch.equal(logits(again), expected)


def test_a_wrong_layer_is_noticed(target):
    assert not torch.equal(logits(cut(target, [0, 1])), logits(cut(target, [0, 2])))


def test_the_head_reads_what_the_base_model_returns(target):
    """What the cache keeps of a teacher: caps and biases included."""
    with torch.inference_mode():
        hidden = target.base_model(input_ids=IDS).last_hidden_state
        torch.testing.assert_close(Head.of(target, 1.0)(hidden), logits(target))
        torch.testing.assert_close(Head.of(target, 0.5)(hidden), logits(target) / 0.5)


def test_which_layers_are_taken():
    config = LlamaConfig(num_hidden_layers=4)
    assert choose_layers(config, None, 2) == [0, 1]
    assert choose_layers(config, [0, 3], 2) == [0, 3]
    for layers, count, said in (
        ([0, 4], 2, r"cut.layers=\[0, 4\]"),
        ([1, 0], 2, "ascending"),
        ([], 2, "0 to 3"),
        (None, 5, "cut.count=5: expected a whole number from 1 to the target's 4 layers"),
    ):
        with pytest.raises(ConfigError, match=said):
            choose_layers(config, layers, count)
    with pytest.raises(ConfigError, match=r"gpt2: a drafter can be cut from gemma, .*llama"):
        choose_layers(GPT2Config(), None, 1)
