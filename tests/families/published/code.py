"""SmolLM 2 and 3, StarCoder and StarCoder2."""

from dataclasses import replace

from tests.families.family import Family, Published, TokenizerKind
from tests.families.published.alibaba import FILES
from tests.families.published.meta import BEGIN, END, LLAMA3_KIND, LLAMA3_TOKENIZER
from tests.families.published.shared import LLAMA, SIZES, UNLIMITED
from tests.families.templates import CHATML

TEXT, START, TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SMOL_KIND = TokenizerKind(
    "gpt2", (TEXT, START, TURN, "<repo_name>", "<reponame>", "<file_sep>", "<filename>", "<empty_output>"), digits=True
)
SMOLLM2 = {
    **LLAMA, "bos_token_id": START, "eos_token_id": TURN, "pad_token_id": TURN, "max_position_embeddings": 8192,
    "mlp_bias": False,
    "rope_interleaved": False, "rope_scaling": None, "rope_theta": 130000, "tie_word_embeddings": True,
    "is_llama_config": True,
    "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16", "fp16": "float16"}},
}  # fmt: skip
SMOL_TOKENIZER = {
    "add_prefix_space": False, "additional_special_tokens": [START, TURN], "bos_token": START,
    "clean_up_tokenization_spaces": False,
    "eos_token": TURN, "model_max_length": 8192, "pad_token": TURN, "tokenizer_class": "GPT2Tokenizer",
    "unk_token": TEXT,
    "vocab_size": 49152,
}  # fmt: skip
SMOL_BASE = {**SMOLLM2, "bos_token_id": TEXT, "eos_token_id": TEXT, "is_llama_config": True}
SMOL_BASE.pop("pad_token_id")
BASE_TOKENIZER = {
    **SMOL_TOKENIZER,
    "bos_token": TEXT,
    "eos_token": TEXT,
    "additional_special_tokens": [TEXT, START, TURN],
}
BASE_TOKENIZER.pop("pad_token")
SMOLLM3 = {
    **LLAMA, "architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "bos_token_id": None,
    "eos_token_id": TURN,
    "pad_token_id": "<|finetune_right_pad_id|>", "layer_types": ["full_attention"] * 2,
    "max_position_embeddings": 65536,
    "max_window_layers": 28,
    "mlp_bias": False, "no_rope_layer_interval": 4, "no_rope_layers": [1, 0], "pretraining_tp": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 5000000.0, "sliding_window": None, "tie_word_embeddings": True, "use_sliding_window": False,
    "transformers_version": "4.54.0.dev0",
}  # fmt: skip
SMOLLM3_NAMES = dict(
    zip(
        (f"<|reserved_special_token_{number}|>" for number in (0, 1, 3, 4)),
        ("<think>", "</think>", START, TURN),
        strict=True,
    )
)
SMOLLM3_KIND = replace(LLAMA3_KIND, last=tuple(SMOLLM3_NAMES.get(name, name) for name in LLAMA3_KIND.last), template=())
SMOLLM3_TOKENIZER = {
    **LLAMA3_TOKENIZER,
    "bos_token": None,
    "eos_token": TURN,
    "fast": False,
    "add_bos_token": False,
}
FIM = (
    "<fim_prefix>",
    "<fim_middle>",
    "<fim_suffix>",
    "<fim_pad>",
    "<filename>",
    "<gh_stars>",
    "<issue_start>",
    "<jupyter_start>",
)
STAR_KIND = TokenizerKind("gpt2", (TEXT, *FIM), digits=True)
BIGCODE = {
    "architectures": ["GPTBigCodeForCausalLM"], "model_type": "gpt_bigcode", "activation_function": "gelu_pytorch_tanh",
    "attention_softmax_in_fp32": True, "attn_pdrop": 0.1, "bos_token_id": TEXT, "embd_pdrop": 0.1, "eos_token_id": TEXT,
    "inference_runner": 0,
    "initializer_range": 0.02209708691207961, "layer_norm_epsilon": 1e-05, "max_batch_size": None,
    "max_sequence_length": None,
    "multi_query": True, "n_embd": 32, "n_head": 4, "n_inner": 64, "n_layer": 2, "n_positions": 512,
    "pad_key_length": True,
    "pre_allocate_kv_cache": False, "resid_pdrop": 0.1, "scale_attention_softmax_in_fp32": True,
    "scale_attn_weights": True,
    "summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True, "transformers_version": "4.28.1", "use_cache": True, "validate_runner_input": True,
}  # fmt: skip
STAR_TOKENIZER = {
    "add_prefix_space": False, "additional_special_tokens": [TEXT, *FIM], "bos_token": TEXT,
    "clean_up_tokenization_spaces": True,
    "eos_token": TEXT, "model_max_length": UNLIMITED, "tokenizer_class": "GPT2Tokenizer",
    "unk_token": TEXT, "vocab_size": 49152,
}  # fmt: skip
STARCODER2 = {
    **SIZES, "architectures": ["Starcoder2ForCausalLM"], "model_type": "starcoder2", "activation_function": "gelu",
    "attention_dropout": 0.1,
    "attention_softmax_in_fp32": True, "bos_token_id": TEXT, "embedding_dropout": 0.1, "eos_token_id": TEXT,
    "hidden_act": "gelu_pytorch_tanh",
    "initializer_range": 0.018042, "layer_norm_epsilon": 1e-05, "max_position_embeddings": 16384, "mlp_type": "default",
    "norm_epsilon": 1e-05,
    "norm_type": "layer_norm", "residual_dropout": 0.1, "rope_theta": 999999.4420358813,
    "scale_attention_softmax_in_fp32": True,
    "scale_attn_weights": True, "sliding_window": 8, "transformers_version": "4.37.0.dev0", "use_bias": True,
    "use_cache": True,
}  # fmt: skip
END_ONLY = {"bos_token_id": TEXT, "eos_token_id": TEXT, "_from_model_config": True}

FAMILIES = (
    Family(
        "smollm2",
        Published(
            "HuggingFaceTB/SmolLM2-1.7B-Instruct", SMOLLM2, SMOL_KIND, SMOL_TOKENIZER,
            {"bos_token_id": START, "eos_token_id": TURN, "pad_token_id": TURN}, CHATML, files=FILES,
        ),
        Published("HuggingFaceTB/SmolLM2-135M", SMOL_BASE, SMOL_KIND, BASE_TOKENIZER, END_ONLY, files=FILES),
    ),
    Family(
        "smollm3",
        Published(
            "HuggingFaceTB/SmolLM3-3B", SMOLLM3, SMOLLM3_KIND, SMOLLM3_TOKENIZER,
            {"do_sample": True, "bos_token_id": BEGIN, "eos_token_id": TURN, "temperature": 0.6, "top_p": 0.95},
            CHATML, sharded=True,
        ),
        Published(
            "HuggingFaceTB/SmolLM3-3B-Base", {**SMOLLM3, "bos_token_id": BEGIN, "eos_token_id": END}, SMOLLM3_KIND,
            {**SMOLLM3_TOKENIZER, "bos_token": BEGIN, "eos_token": END}, {"bos_token_id": BEGIN, "eos_token_id": END},
        ),
    ),
    Family(
        "starcoder",
        Published("bigcode/starcoder", BIGCODE, STAR_KIND, STAR_TOKENIZER, END_ONLY, dtype="float32", sharded=True,
            files=FILES),
        Published("bigcode/starcoderbase-1b", BIGCODE, STAR_KIND, STAR_TOKENIZER, END_ONLY, dtype="float32",
            files=FILES),
    ),
    Family(
        "starcoder2",
        Published("bigcode/starcoder2-15b", STARCODER2, STAR_KIND, STAR_TOKENIZER, END_ONLY, dtype="float32",
            sharded=True,
            files=FILES),
        Published("bigcode/starcoder2-3b", {**STARCODER2, "torch_dtype": "bfloat16"}, STAR_KIND, STAR_TOKENIZER,
            END_ONLY,
            files=FILES),
    ),
)  # fmt: skip
