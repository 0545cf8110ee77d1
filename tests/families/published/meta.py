# ruff: noqa: RUF001 - names of tokens are written as they are published
"""Llama 2, 3.x and the text part of Llama 4; and the models that share their tokenizers."""

from tests.families.family import Family, Published, TokenizerKind
from tests.families.published.shared import GPT4_SPLIT, LLAMA, UNLIMITED, added
from tests.families.templates import INST, LLAMA3, LLAMA4, R1, ZEPHYR

SENTENCEPIECE = ("tokenizer.json", "tokenizer.model")
LLAMA2_KIND = TokenizerKind(None, ("<unk>", "<s>", "</s>"), template=("<s>", "$A"), prefix=True, unk="<unk>")
LLAMA2 = {**LLAMA, "max_position_embeddings": 4096, "rope_scaling": None, "bos_token_id": "<s>", "eos_token_id": "</s>"}
LLAMA2_TOKENIZER = {
    "add_bos_token": True, "add_eos_token": False, "bos_token": added("<s>"), "eos_token": added("</s>"),
    "unk_token": added("<unk>"), "pad_token": None, "clean_up_tokenization_spaces": False, "legacy": False,
    "model_max_length": UNLIMITED, "padding_side": "right", "sp_model_kwargs": {}, "tokenizer_class": "LlamaTokenizer",
}  # fmt: skip

BEGIN, END, TURN = "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"
RESERVED = tuple(f"<|reserved_special_token_{number}|>" for number in range(9))
HEADERS = ("<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", TURN, "<|python_tag|>")
LLAMA3_SPECIALS = (BEGIN, END, *RESERVED[:2], "<|finetune_right_pad_id|>", RESERVED[2], *HEADERS, *RESERVED[3:])
LLAMA3_KIND = TokenizerKind(GPT4_SPLIT, last=LLAMA3_SPECIALS, template=(BEGIN, "$A"), ignore_merges=True)
LLAMA3_TOKENIZER = {
    "bos_token": BEGIN, "clean_up_tokenization_spaces": True, "model_input_names": ["input_ids", "attention_mask"],
    "model_max_length": 131072, "tokenizer_class": "PreTrainedTokenizerFast",
}  # fmt: skip
ROPE = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
ENDS = [END, "<|eom_id|>", TURN]
LLAMA31 = {
    **LLAMA, "bos_token_id": BEGIN, "eos_token_id": ENDS, "max_position_embeddings": 131072, "mlp_bias": False,
    "rope_scaling": ROPE, "rope_theta": 500000.0, "tie_word_embeddings": False,
}  # fmt: skip
LLAMA32 = {**LLAMA31, "head_dim": 8, "rope_scaling": {**ROPE, "factor": 32.0}, "tie_word_embeddings": True}
SAMPLED = {"bos_token_id": BEGIN, "do_sample": True, "eos_token_id": ENDS, "temperature": 0.6, "top_p": 0.9}
LLAMA32_INSTRUCT = Published(
    "meta-llama/Llama-3.2-1B-Instruct", LLAMA32, LLAMA3_KIND, {**LLAMA3_TOKENIZER, "eos_token": TURN}, SAMPLED, LLAMA3
)  # fmt: skip

# The distilled one gives new names to ids of Llama's: one vocabulary under other names.
R1_BEGIN, R1_END = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
R1_NAMES = {
    BEGIN: R1_BEGIN,
    END: R1_END,
    **dict(zip(RESERVED, ("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"), strict=False)),
}
R1_KIND = TokenizerKind(
    GPT4_SPLIT, last=tuple(R1_NAMES.get(name, name) for name in LLAMA3_SPECIALS), ordinary=tuple(R1_NAMES.values())[2:],
    template=(R1_BEGIN, "$A"), ignore_merges=True,
)  # fmt: skip
R1_TOKENIZER = {
    "add_bos_token": True, "add_eos_token": False, "bos_token": added(R1_BEGIN), "eos_token": added(R1_END),
    "pad_token": added(R1_END), "clean_up_tokenization_spaces": False, "legacy": True, "model_max_length": 16384,
    "sp_model_kwargs": {}, "unk_token": None, "tokenizer_class": "LlamaTokenizerFast",
}  # fmt: skip
R1_GENERATION = {"bos_token_id": R1_BEGIN, "eos_token_id": R1_END, "do_sample": True, "temperature": 0.6, "top_p": 0.95}

CHUNKED = {
    **LLAMA, "architectures": ["Llama4ForCausalLM"], "model_type": "llama4_text", "attention_chunk_size": 8192,
    "attn_scale": 0.1, "attn_temperature_tuning": True, "bos_token_id": BEGIN,
    "eos_token_id": [END, "<|eom|>", "<|eot|>"],
    "floor_scale": 8192, "for_llm_compressor": False, "head_dim": 8, "interleave_moe_layer_step": 1,
    "intermediate_size_mlp": 64,
    "layer_types": ["chunked_attention", "full_attention"], "max_position_embeddings": 10485760, "moe_layers": [0, 1],
    "no_rope_layers": [1, 0], "num_experts_per_tok": 1, "num_local_experts": 2, "output_router_logits": False,
    "rope_scaling": {**ROPE, "factor": 16.0}, "rope_theta": 500000.0, "router_aux_loss_coef": 0.001,
    "router_jitter_noise": 0.0,
    "tie_word_embeddings": False, "use_qk_norm": True,
}  # fmt: skip
LLAMA4_KIND = TokenizerKind(
    GPT4_SPLIT, last=(BEGIN, END, "<|header_start|>", "<|header_end|>", "<|eom|>", "<|eot|>", "<|finetune_right_pad|>"),
    template=(BEGIN, "$A"), ignore_merges=True,
)  # fmt: skip
LLAMA4_TOKENIZER = {**LLAMA3_TOKENIZER, "eos_token": "<|eot|>", "pad_token": "<|finetune_right_pad|>"}

FAMILIES = (
    Family(
        "llama-2",
        Published(
            "meta-llama/Llama-2-13b-chat-hf", LLAMA2, LLAMA2_KIND, LLAMA2_TOKENIZER,
            {"bos_token_id": "<s>", "eos_token_id": "</s>", "do_sample": True, "max_length": 4096, "temperature": 0.6,
                "top_p": 0.9},
            INST, dtype="float16", sharded=True, decoder=False, files=SENTENCEPIECE,
        ),
        Published(
            "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
            {**LLAMA2, "max_position_embeddings": 2048, "rope_theta": 10000.0, "tie_word_embeddings": False},
            LLAMA2_KIND, {**LLAMA2_TOKENIZER, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
                "pad_token": "</s>",
                "use_default_system_prompt": False},
            {"bos_token_id": "<s>", "eos_token_id": "</s>", "max_length": 2048, "pad_token_id": "<unk>"}, ZEPHYR,
            files=SENTENCEPIECE,
        ),
    ),
    Family(
        "llama-3.x",
        Published(
            "meta-llama/Llama-3.1-8B-Instruct", LLAMA31, LLAMA3_KIND, {**LLAMA3_TOKENIZER, "eos_token": TURN}, SAMPLED,
            LLAMA3,
            sharded=True
        ),
        Published(
            "meta-llama/Llama-3.2-1B", {**LLAMA32, "eos_token_id": END}, LLAMA3_KIND,
            {**LLAMA3_TOKENIZER, "eos_token": END},
            {**SAMPLED, "_from_model_config": True, "eos_token_id": END},
        ),
    ),
    Family(
        "llama-4-text",
        Published("meta-llama/Llama-4-Scout-17B-16E-Instruct", CHUNKED, LLAMA4_KIND, LLAMA4_TOKENIZER, None, LLAMA4,
            sharded=True),
        Published("meta-llama/Llama-4-Scout-17B-16E", CHUNKED, LLAMA4_KIND, LLAMA4_TOKENIZER),
        expected=dict.fromkeys(("doctor", "generate"), "layer types ['chunked_attention'] cannot be rolled back"),
    ),
    Family(
        "deepseek-r1-llama",
        Published(
            "deepseek-ai/DeepSeek-R1-Distill-Llama-8B", {**LLAMA31, "bos_token_id": R1_BEGIN, "eos_token_id": R1_END},
            R1_KIND, R1_TOKENIZER, R1_GENERATION, R1, sharded=True,
        ),
        LLAMA32_INSTRUCT,
    ),
)  # fmt: skip
