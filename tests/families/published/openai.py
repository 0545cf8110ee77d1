"""gpt-oss, as published and as its bf16 copies."""

from tests.families.family import Family, Published, TokenizerKind
from tests.families.published.shared import O200K_SPLIT, SIZES, UNLIMITED
from tests.families.templates import HARMONY

TEXT, RETURN = "<|endoftext|>", "<|return|>"
SPECIALS = (
    "<|startoftext|>",
    TEXT,
    "<|reserved_200000|>",
    RETURN,
    "<|constrain|>",
    "<|channel|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|call|>",
)
KIND = TokenizerKind(O200K_SPLIT, last=(*SPECIALS, *(f"<|reserved_{number}|>" for number in range(200013, 200018))))
CONFIG = {
    **SIZES, "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "attention_bias": True,
    "attention_dropout": 0.0, "eos_token_id": RETURN,
    "experts_per_token": 2, "head_dim": 16, "hidden_act": "silu", "initial_context_length": 4096,
    "initializer_range": 0.02,
    "layer_types": ["sliding_attention", "full_attention"], "max_position_embeddings": 131072, "num_experts_per_tok": 2,
    "num_local_experts": 4,
    "output_router_logits": False, "pad_token_id": TEXT, "rms_norm_eps": 1e-05, "rope_scaling": {
        "beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096,
        "rope_type": "yarn",
        "truncate": False
    }, "rope_theta": 150000, "router_aux_loss_coef": 0.9, "sliding_window": 8, "swiglu_limit": 7.0,
    "tie_word_embeddings": False,
    "transformers_version": "4.55.0.dev0", "use_cache": True,
}  # fmt: skip
PACKED = {
    **CONFIG, "quantization_config": {
        "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens",
            "lm_head"],
        "quant_method": "mxfp4"
    },
}  # fmt: skip
TOKENIZER = {
    "bos_token": "<|startoftext|>", "clean_up_tokenization_spaces": False, "eos_token": RETURN,
    "extra_special_tokens": {},
    "model_input_names": ["input_ids", "attention_mask"], "model_max_length": UNLIMITED, "pad_token": TEXT,
    "tokenizer_class": "PreTrainedTokenizerFast",
}  # fmt: skip
GENERATION = {
    "bos_token_id": "<|startoftext|>",
    "do_sample": True,
    "eos_token_id": [RETURN, TEXT, "<|call|>"],
    "pad_token_id": TEXT,
}

FAMILIES = (
    Family(
        "gpt-oss",
        Published("openai/gpt-oss-120b", PACKED, KIND, TOKENIZER, GENERATION, HARMONY, 64),
        Published("openai/gpt-oss-20b", PACKED, KIND, TOKENIZER, GENERATION, HARMONY, 64),
        expected={"*": "expected an unquantised drafter, got mxfp4"},
    ),
    Family(
        "gpt-oss-bf16",
        Published("unsloth/gpt-oss-120b-BF16", {**CONFIG, "unsloth_fixed": True}, KIND,
            {**TOKENIZER, "pad_token": "<|reserved_200017|>"}, GENERATION, HARMONY, 64, sharded=True),
        Published("unsloth/gpt-oss-20b-BF16", {**CONFIG, "unsloth_fixed": True}, KIND, TOKENIZER, GENERATION, HARMONY,
            64),
    ),
)  # fmt: skip
