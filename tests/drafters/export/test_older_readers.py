"""Configs and tokenizer configs say the same in the words of transformers 4 and of 5."""

import json

import pytest
from transformers import CONFIG_MAPPING

from drafters.export.older_readers import for_older_readers, plain_tokenizer_config, with_rope_keys

FLAT = {"rope_theta": 500000.0, "rope_type": "default"}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
LAYERS = {"full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0}, "sliding_attention": FLAT}


@pytest.mark.parametrize(
    ("family", "rope", "expected"),
    [
        ("llama", FLAT, {"rope_theta": 500000.0}),
        ("llama", {**FLAT, **LLAMA3}, {"rope_theta": 500000.0, "rope_scaling": LLAMA3}),
        ("phi", {**FLAT, "partial_rotary_factor": 0.5}, {"rope_theta": 500000.0, "partial_rotary_factor": 0.5}),
        ("gpt_neox", {**FLAT, "partial_rotary_factor": 0.25}, {"rotary_emb_base": 500000.0, "rotary_pct": 0.25}),
        (
            "phi3",
            {
                **FLAT,
                "rope_type": "longrope",
                "short_factor": [1.0],
                "long_factor": [2.0],
                "original_max_position_embeddings": 64,
            },
            {"rope_theta": 500000.0, "rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}},
        ),
        (
            "gemma3_text",
            LAYERS,
            {
                "rope_theta": 1e6,
                "rope_local_base_freq": 500000.0,
                "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            },
        ),
        (
            "modernbert-decoder",
            {"full_attention": FLAT, "sliding_attention": {**FLAT, "rope_theta": 1e4}},
            {"global_rope_theta": 500000.0, "local_rope_theta": 1e4},
        ),
        ("gpt2", None, {}),
    ],
)
def test_rotary_keys_of_4_stand_beside_those_of_5(family, rope, expected):
    config = {"model_type": family, "rope_parameters": rope, "hidden_size": 16}
    assert with_rope_keys(config) == config | expected
    nested = with_rope_keys({"model_type": "outer", "text_config": config})
    assert nested == {"model_type": "outer", "text_config": config | expected}
    assert with_rope_keys(with_rope_keys(config)) == config | expected


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma3_text", "qwen2", "phi"])
def test_5_reads_the_same_with_both_spellings(family, tmp_path):
    kind = CONFIG_MAPPING[family]
    rope = (
        LAYERS
        if family == "gemma3_text"
        else {**FLAT, "partial_rotary_factor": 0.5}
        if family in ("phi", "gpt_neox")
        else FLAT
    )
    before = kind(rope_parameters=json.loads(json.dumps(rope)))
    before.save_pretrained(tmp_path)
    for_older_readers(tmp_path)
    assert kind.from_pretrained(tmp_path).rope_parameters == before.rope_parameters


def test_tokenizer_configs():
    found = plain_tokenizer_config({
        "tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<a>", "<b>"], "is_local": True, "local_files_only": True,
        "name_or_path": "/home/me/model", "model_specific_special_tokens": {"image_token": "<i>"}, "pad_token": "<p>",
    })  # fmt: skip
    assert found == {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"],
        "additional_special_tokens": ["<a>", "<b>"],
        "extra_special_tokens": {"image_token": "<i>"}, "pad_token": "<p>",
    }  # fmt: skip
    published = {"tokenizer_class": "Qwen2Tokenizer", "extra_special_tokens": {}, "additional_special_tokens": ["<a>"]}
    assert plain_tokenizer_config(published) == published


def test_a_file_that_needs_nothing_keeps_its_bytes(tmp_path):
    text = '{"tokenizer_class":   "GPT2Tokenizer"}'
    (tmp_path / "tokenizer_config.json").write_text(text)
    for_older_readers(tmp_path)
    assert (tmp_path / "tokenizer_config.json").read_text() == text
