# ruff: noqa: RUF001 - names of tokens are written as they are published
"""Qwen 2, 2.5, 3 and 3.5, and DeepSeek's distillate into Qwen."""

from tests.families.family import Family, Published, TokenizerKind
from tests.families.published.meta import R1_BEGIN, R1_END, R1_GENERATION, R1_TOKENIZER
from tests.families.published.shared import QWEN_SPLIT, SIZES
from tests.families.templates import CHATML, R1

TEXT, TURN = "<|endoftext|>", "<|im_end|>"
CHAT = (TEXT, "<|im_start|>", TURN)
VISION = ("<|object_ref_start|>", "<|object_ref_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
TOOLS = ("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|file_sep|>")
THINK = ("<tool_response>", "</tool_response>", "<think>", "</think>")
QWEN2_KIND = TokenizerKind(QWEN_SPLIT, last=CHAT, nfc=True)
QWEN25_KIND = TokenizerKind(QWEN_SPLIT, last=(*CHAT, *VISION, *TOOLS), ordinary=TOOLS, nfc=True)
QWEN3_KIND = TokenizerKind(QWEN_SPLIT, last=(*CHAT, *VISION, *TOOLS, *THINK), ordinary=(*TOOLS, *THINK), nfc=True)
QWEN2 = {
    **SIZES, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "attention_dropout": 0.0,
    "bos_token_id": TEXT,
    "eos_token_id": TURN, "hidden_act": "silu", "initializer_range": 0.02, "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 131072, "tie_word_embeddings": False,
    "transformers_version": "4.43.1", "use_cache": True, "use_sliding_window": False,
}  # fmt: skip
SMALL = {**QWEN2, "sliding_window": 32768, "max_window_layers": 21, "tie_word_embeddings": True}
BASE = {**SMALL, "eos_token_id": TEXT, "max_window_layers": 24, "use_mrope": False}
TOKENIZER = {
    "add_bos_token": False, "add_prefix_space": False, "additional_special_tokens": list(CHAT[1:]), "bos_token": None,
    "clean_up_tokenization_spaces": False, "eos_token": TURN, "errors": "replace", "model_max_length": 131072,
    "pad_token": TEXT,
    "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": None,
}  # fmt: skip
BASE_TOKENIZER = {**TOKENIZER, "eos_token": TEXT, "model_max_length": 32768}
FILES = ("tokenizer.json", "vocab.json", "merges.txt")
GENERATION = {
    "bos_token_id": TEXT, "pad_token_id": TEXT, "do_sample": True, "eos_token_id": [TURN, TEXT],
    "repetition_penalty": 1.05,
    "temperature": 0.7, "top_p": 0.8, "top_k": 20,
}  # fmt: skip
BASE_GENERATION = {"bos_token_id": TEXT, "do_sample": False, "eos_token_id": TEXT, "max_new_tokens": 2048}
QWEN3 = {
    **QWEN2, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": False, "head_dim": 16,
    "max_position_embeddings": 40960, "rope_scaling": None, "sliding_window": None, "max_window_layers": 36,
}  # fmt: skip
QWEN3_GENERATION = {**GENERATION, "temperature": 0.6, "top_p": 0.95, "repetition_penalty": 1.0}
HYBRID = {
    "architectures": ["Qwen3_5ForConditionalGeneration"], "model_type": "qwen3_5", "image_token_id": "<|image_pad|>",
    "text_config": {
        **SIZES, "model_type": "qwen3_5_text", "attn_output_gate": True, "eos_token_id": TEXT,
        "full_attention_interval": 2,
        "head_dim": 16,
        "layer_types": ["linear_attention", "full_attention"], "linear_conv_kernel_dim": 4, "linear_key_head_dim": 8,
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_value_head_dim": 8,
        "mamba_ssm_dtype": "float32",
        "max_position_embeddings": 262144, "mtp_num_hidden_layers": 1, "mtp_use_dedicated_embeddings": False,
        "rope_parameters": {"mrope_interleaved": True, "mrope_section": [1, 0, 1], "partial_rotary_factor": 0.25,
            "rope_theta": 10000000, "rope_type": "default"},
    },
    "tie_word_embeddings": True, "vision_end_token_id": "<|vision_end|>", "vision_start_token_id": "<|vision_start|>",
    "vision_config": {"model_type": "qwen3_5", "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2,
        "out_hidden_size": 32, "num_position_embeddings": 16},
}  # fmt: skip
R1_ORDINARY = ("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>")
R1_KIND = TokenizerKind(
    QWEN_SPLIT, last=(R1_END, *R1_ORDINARY, R1_BEGIN), ordinary=R1_ORDINARY, template=(R1_BEGIN, "$A"), nfc=True
)
R1_CONFIG = {
    **QWEN2,
    "bos_token_id": R1_BEGIN,
    "eos_token_id": R1_END,
    "use_mrope": False,
    "max_position_embeddings": 131072,
}

FAMILIES = (
    Family(
        "qwen2",
        Published("Qwen/Qwen2-7B-Instruct", QWEN2, QWEN2_KIND, TOKENIZER, GENERATION, CHATML, 24, sharded=True,
            files=FILES),
        Published("Qwen/Qwen2-0.5B", BASE, QWEN2_KIND, BASE_TOKENIZER, BASE_GENERATION, None, 16, files=FILES),
        unset=("repetition_penalty",),
    ),
    Family(
        "qwen2.5",
        Published("Qwen/Qwen2.5-7B-Instruct", QWEN2, QWEN25_KIND, TOKENIZER, GENERATION, CHATML, 40, sharded=True,
            files=FILES),
        Published(
            "Qwen/Qwen2.5-0.5B-Instruct", SMALL, QWEN25_KIND, TOKENIZER, {**GENERATION, "repetition_penalty": 1.1}, CHATML,
            16,
            files=FILES
        ),
        unset=("repetition_penalty",),
    ),
    Family(
        "qwen3",
        Published("Qwen/Qwen3-8B", QWEN3, QWEN3_KIND, TOKENIZER, QWEN3_GENERATION, CHATML, 8, sharded=True,
            files=FILES),
        Published(
            "Qwen/Qwen3-0.6B-Base",
            {**QWEN3, "eos_token_id": TEXT, "max_window_layers": 28, "tie_word_embeddings": True},
            QWEN3_KIND,
            BASE_TOKENIZER, BASE_GENERATION, None, 8, files=FILES,
        ),
    ),
    Family(
        "qwen3.5",
        Published("Qwen/Qwen3.5-4B", HYBRID, QWEN3_KIND, TOKENIZER, QWEN3_GENERATION, CHATML, 8, files=FILES),
        Published("Qwen/Qwen3.5-0.8B", HYBRID, QWEN3_KIND, TOKENIZER, QWEN3_GENERATION, CHATML, 8, files=FILES),
        expected=dict.fromkeys(("doctor", "generate"),
            "keeps a recurrent state that cannot be rolled back; choose an attention-only model"),
    ),
    Family(
        "deepseek-r1-qwen",
        Published("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", R1_CONFIG, R1_KIND, R1_TOKENIZER, R1_GENERATION, R1, 32,
            sharded=True),
        Published(
            "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", {**R1_CONFIG, "sliding_window": 4096}, R1_KIND, R1_TOKENIZER,
            R1_GENERATION, R1, 16
        ),
    ),
)  # fmt: skip
