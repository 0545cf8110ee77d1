"""The class of a config, composites used for text included: decoding equals stock, in the library and from the folder."""

import pytest
import torch
from transformers import (
    Gemma3Config,
    Gemma3nTextConfig,
    LlamaConfig,
    LlavaConfig,
    Mistral3Config,
    PreTrainedConfig,
    Qwen2_5_VLConfig,
    Qwen2Config,
)

import drafters
from drafters.models.architecture import attention, find_class, undeclared
from drafters.models.model_folder import open_model
from drafters.models.pair import open_checkpoint, pair_settings

TEXT = {
    "vocab_size": 48, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "head_dim": 8, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EYE = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
QWEN_EYE = {
    "depth": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16, "out_hidden_size": 32, "fullatt_block_indexes": [0],
}  # fmt: skip
LISTS = {
    "intermediate_size": [48, 48], "vocab_size_per_layer_input": 48, "hidden_size_per_layer_input": 4,
    "num_kv_shared_layers": 0, "laurel_rank": 4, "activation_sparsity_pattern": [0.0, 0.0],
    "layer_types": ["sliding_attention", "full_attention"],
}  # fmt: skip
CONFIGS = {
    "Mistral3ForConditionalGeneration": lambda: Mistral3Config(
        text_config={"model_type": "mistral", **TEXT},
        vision_config={"model_type": "pixtral", "head_dim": 8, **EYE},
        image_token_index=5,
    ),
    "LlavaForConditionalGeneration": lambda: LlavaConfig(
        text_config={"model_type": "llama", **TEXT},
        vision_config={"model_type": "clip_vision_model", **EYE, "num_hidden_layers": 2},
        image_token_index=5,
    ),
    "Qwen2_5_VLForConditionalGeneration": lambda: Qwen2_5_VLConfig(
        text_config={**TEXT, "rope_parameters": MROPE}, vision_config=QWEN_EYE
    ),
    "Gemma3ForConditionalGeneration": lambda: Gemma3Config(
        text_config={**TEXT, "sliding_window": 16}, vision_config=EYE
    ),
    "Gemma3nForCausalLM": lambda: Gemma3nTextConfig(**{**TEXT, **LISTS}),
}


@pytest.fixture(scope="module")
def package(tools, tmp_path_factory):
    return drafters.load(tools.write(tmp_path_factory.mktemp("package") / "p", slots=False), device="cpu", dtype="fp32")


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_a_composite_folder_decodes_as_stock_does(name, package, tools, tmp_path):
    torch.manual_seed(0)
    config = CONFIGS[name]()
    kind = find_class(config)
    assert kind is not None
    kind(config).save_pretrained(tmp_path)
    tools.make_tokenizer().save_pretrained(tmp_path)
    found = open_checkpoint("target", pair_settings(target=str(tmp_path), drafter="x"))
    target = open_model(found.source, found.config, torch.float32, torch.device("cpu"))
    assert type(target).__name__ == name
    assert (found.vocabulary, found.notes) == (48, ())
    ids = torch.tensor([[1, 7, 9, 11, 20]])
    with torch.no_grad():
        stock = target.generate(ids, do_sample=False, max_new_tokens=16, pad_token_id=0)[0, 5:]
    ours = drafters.generate(target, package, ids, temperature=0.0, max_new_tokens=16, sampler="tli")
    assert int(ours.drafted.sum()) > 0
    assert ours.tokens[0].tolist() == stock.tolist()


def test_the_class_that_the_config_names_comes_first():
    config = Mistral3Config(architectures=["Mistral3ForConditionalGeneration"])
    assert find_class(config).__name__ == "Mistral3ForConditionalGeneration"
    assert find_class(LlamaConfig(architectures=["LlamaForSequenceClassification"])).__name__ == "LlamaForCausalLM"
    assert find_class(PreTrainedConfig()) is None


def test_soft_caps_inside_a_composite_are_not_lost():
    assert attention(LlavaConfig(text_config={"model_type": "gemma2", **TEXT})) == "eager"
    assert attention(LlavaConfig(text_config={"model_type": "llama", **TEXT})) == "sdpa"


def test_undeclared_keys_at_any_depth():
    config = Gemma3Config(text_config={"note": 1, **TEXT}, vision_config=EYE, remark="x")
    kept, left = undeclared(config, config.to_dict())
    assert sorted(left) == ["remark", "text_config.note"]
    assert "note" not in kept["text_config"]
    assert kept["text_config"]["vocab_size"] == 48


def test_what_models_read_without_declaring_it_is_kept():
    """Qwen2's class knows no head_dim, and its attention asks for one: dropping it would change the model."""
    config = Qwen2Config(**TEXT)
    config.head_dim = 16
    kept, left = undeclared(config, config.to_dict())
    assert (kept["head_dim"], left) == (16, [])
