"""Mistral 7B v0.1 and v0.3, Nemo, Small 3 and 3.1."""

from tests.families.family import Family, Published, TokenizerKind
from tests.families.published.alibaba import SMALL
from tests.families.published.meta import LLAMA2_KIND, LLAMA2_TOKENIZER, SENTENCEPIECE
from tests.families.published.shared import O200K_SPLIT, SIZES, UNLIMITED
from tests.families.templates import INST

CONTROL = (
    "[INST]",
    "[/INST]",
    "[TOOL_CALLS]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
)
V3_KIND = TokenizerKind(
    None, ("<unk>", "<s>", "</s>", *CONTROL, *(f"[control_{number}]" for number in range(8, 12))),
    template=("<s>", "$A"),
    prefix=True, unk="<unk>"
)  # fmt: skip
TEKKEN_SPECIALS = (
    "<unk>",
    "<s>",
    "</s>",
    *CONTROL,
    "<pad>",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[IMG]",
    *(f"<SPECIAL_{number}>" for number in range(20, 24)),
)
TEKKEN_KIND = TokenizerKind(
    O200K_SPLIT.replace("{1,3}", ""), TEKKEN_SPECIALS, template=("<s>", "$A"), ignore_merges=True
)
IDS = {"bos_token_id": "<s>", "eos_token_id": "</s>"}
GENERATION = {**IDS, "_from_model_config": True}
V1 = {
    **SIZES, **IDS, "architectures": ["MistralForCausalLM"], "model_type": "mistral", "attention_dropout": 0.0,
    "hidden_act": "silu",
    "initializer_range": 0.02, "max_position_embeddings": 32768, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
    "sliding_window": 8,
    "tie_word_embeddings": False, "transformers_version": "4.34.0.dev0", "use_cache": True,
}  # fmt: skip
V3 = {**V1, "head_dim": None, "rope_theta": 1000000.0, "sliding_window": None, "transformers_version": "4.42.0.dev0"}
NEMO = {**V3, "head_dim": 16, "max_position_embeddings": 131072}
SMALL3 = {**NEMO, "max_position_embeddings": 32768, "rope_theta": 100000000.0}
V1_TOKENIZER = {
    **LLAMA2_TOKENIZER,
    "additional_special_tokens": [],
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "legacy": True,
    "spaces_between_special_tokens": False,
    "use_default_system_prompt": False,
}
TEKKEN_TOKENIZER = {
    "add_bos_token": True, "add_eos_token": False, "add_prefix_space": False, "bos_token": "<s>",
    "clean_up_tokenization_spaces": False,
    "eos_token": "</s>", "model_max_length": UNLIMITED, "tokenizer_class": "GPT2Tokenizer", "unk_token": "<unk>",
}  # fmt: skip
SMALL3_TOKENIZER = {
    **TEKKEN_TOKENIZER,
    "tokenizer_class": "LlamaTokenizerFast",
    "legacy": True,
    "extra_special_tokens": {},
    "pad_token": "<pad>",
}
TEXT31 = {key: value for key, value in SMALL3.items() if key not in ("architectures", *IDS)}
SMALL31 = {
    "architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3", "image_token_index": "[IMG]",
    "multimodal_projector_bias": False,
    "projector_hidden_act": "gelu", "spatial_merge_size": 2, "text_config": TEXT31,
    "transformers_version": "4.50.0.dev0",
    "vision_config": {
        "head_dim": 8, "hidden_act": "silu", "hidden_size": 16, "image_size": 28, "intermediate_size": 16,
        "model_type": "pixtral",
        "num_attention_heads": 2, "num_channels": 3, "num_hidden_layers": 1, "patch_size": 14, "rope_theta": 10000.0,
    },
    "vision_feature_layer": -1,
}  # fmt: skip
# Made for it: Qwen's architecture under Mistral's vocabulary.
DRAFT = {**SMALL, **IDS, "tie_word_embeddings": True}

FAMILIES = (
    Family(
        "mistral-v0.1",
        Published("mistralai/Mistral-7B-Instruct-v0.1", V1, LLAMA2_KIND, V1_TOKENIZER, GENERATION, INST, sharded=True,
            files=SENTENCEPIECE),
        Published("mistralai/Mistral-7B-v0.1", V1, LLAMA2_KIND, V1_TOKENIZER, GENERATION, files=SENTENCEPIECE),
    ),
    Family(
        "mistral-v0.3",
        Published("mistralai/Mistral-7B-Instruct-v0.3", V3, V3_KIND, {**V1_TOKENIZER, "legacy": False}, GENERATION,
            INST,
            sharded=True, files=SENTENCEPIECE),
        Published("mistralai/Mistral-7B-v0.3", V3, V3_KIND, {**V1_TOKENIZER, "legacy": False}, GENERATION,
            files=SENTENCEPIECE),
    ),
    Family(
        "mistral-nemo",
        Published("mistralai/Mistral-Nemo-Instruct-2407", NEMO, TEKKEN_KIND, TEKKEN_TOKENIZER, GENERATION, INST,
            sharded=True),
        Published("mistralai/Mistral-Nemo-Base-2407", NEMO, TEKKEN_KIND, TEKKEN_TOKENIZER, GENERATION),
    ),
    Family(
        "mistral-small-3",
        Published("mistralai/Mistral-Small-24B-Instruct-2501", SMALL3, TEKKEN_KIND, SMALL3_TOKENIZER, GENERATION, INST,
            sharded=True),
        Published("alamios/Mistral-Small-3.1-DRAFT-0.5B", DRAFT, TEKKEN_KIND, SMALL3_TOKENIZER, GENERATION, INST),
    ),
    Family(
        "mistral-small-3.1",
        Published("mistralai/Mistral-Small-3.1-24B-Instruct-2503", SMALL31, TEKKEN_KIND, SMALL3_TOKENIZER, GENERATION,
            INST,
            sharded=True),
        Published("alamios/Mistral-Small-3.1-DRAFT-0.5B", DRAFT, TEKKEN_KIND, SMALL3_TOKENIZER, GENERATION, INST),
    ),
)  # fmt: skip
