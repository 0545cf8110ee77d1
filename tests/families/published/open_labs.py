"""Falcon 3, OLMo 2, Granite, Yi, InternLM 2.5 and 3, the decoders of ModernBERT's recipe."""

from tests.families.family import Family, Published, TokenizerKind
from tests.families.published.alibaba import FILES
from tests.families.published.meta import LLAMA2_TOKENIZER, SENTENCEPIECE
from tests.families.published.shared import GPT4_SPLIT, LLAMA, SIZES, UNLIMITED
from tests.families.templates import CHATML, GRANITE, OLMO2, ZEPHYR

TEXT, TURN = "<|endoftext|>", "<|im_end|>"
FALCON_KIND = TokenizerKind(
    "gpt2",
    (">>TITLE<<", ">>ABSTRACT<<", ">>INTRODUCTION<<", ">>SUMMARY<<", TEXT, "<|pad|>", ">>UNUSED_1<<"),
    digits=True,
)
FALCON3 = {
    **LLAMA, "bos_token_id": None, "eos_token_id": TEXT, "head_dim": 16, "max_position_embeddings": 32768,
    "mlp_bias": False, "rms_norm_eps": 1e-06,
    "rope_scaling": None, "rope_theta": 1000042, "tie_word_embeddings": False,
}  # fmt: skip
FALCON_TOKENIZER = {
    "clean_up_tokenization_spaces": True, "eos_token": TEXT, "extra_special_tokens": {},
    "model_input_names": ["input_ids", "attention_mask"],
    "model_max_length": 32768, "pad_token": "<|pad|>", "tokenizer_class": "PreTrainedTokenizer",
}  # fmt: skip
OLMO_KIND = TokenizerKind(
    GPT4_SPLIT,
    last=(TEXT, "<|fim_prefix|>", "<|im_start|>", TURN, "<|extra_id_0|>", "<|pad|>"),
    ordinary=("<|extra_id_0|>",),
)
OLMO = {
    **SIZES, "architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2", "attention_bias": False,
    "attention_dropout": 0.0, "bos_token_id": TEXT,
    "eos_token_id": TEXT, "pad_token_id": "<|pad|>", "hidden_act": "silu", "initializer_range": 0.02,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 500000, "tie_word_embeddings": False,
    "transformers_version": "4.47.0", "use_cache": False,
}  # fmt: skip
OLMO_TOKENIZER = {
    "add_prefix_space": False, "bos_token": TEXT, "clean_up_tokenization_spaces": False, "eos_token": TEXT,
    "extra_special_tokens": {},
    "model_max_length": UNLIMITED, "pad_token": "<|pad|>", "tokenizer_class": "GPT2Tokenizer", "unk_token": TEXT,
}  # fmt: skip
GRANITE_TEXT = "<|end_of_text|>"
GRANITE_FIRST = (GRANITE_TEXT, "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<filename>")
GRANITE_TURNS = ("<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>")
GRANITE_KIND = TokenizerKind("gpt2", GRANITE_FIRST, GRANITE_TURNS, digits=True)
GRANITE_BASE_KIND = TokenizerKind("gpt2", GRANITE_FIRST, digits=True)
GRANITE_CONFIG = {
    **SIZES, "architectures": ["GraniteForCausalLM"], "model_type": "granite", "attention_bias": False,
    "attention_dropout": 0.1,
    "attention_multiplier": 0.0625, "bos_token_id": GRANITE_TEXT, "embedding_multiplier": 12.0,
    "eos_token_id": GRANITE_TEXT, "hidden_act": "silu",
    "initializer_range": 0.02, "logits_scaling": 8.0, "max_position_embeddings": 131072, "mlp_bias": False,
    "pad_token_id": GRANITE_TEXT,
    "residual_multiplier": 0.22, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 5000000.0,
    "tie_word_embeddings": True,
    "transformers_version": "4.47.0.dev0", "use_cache": True,
}  # fmt: skip
GRANITE_TOKENIZER = {
    "add_bos_token": False, "add_prefix_space": False, "additional_special_tokens": list(GRANITE_TURNS),
    "bos_token": GRANITE_TEXT,
    "clean_up_tokenization_spaces": True, "eos_token": GRANITE_TEXT, "errors": "replace", "extra_special_tokens": {},
    "model_max_length": UNLIMITED,
    "pad_token": GRANITE_TEXT, "padding_side": "left", "tokenizer_class": "GPT2Tokenizer", "unk_token": GRANITE_TEXT,
    "vocab_size": 49152,
}  # fmt: skip
GRANITE_BASE_TOKENIZER = {**GRANITE_TOKENIZER, "additional_special_tokens": list(GRANITE_FIRST)}
GRANITE_GENERATION = {
    "_from_model_config": True,
    "bos_token_id": GRANITE_TEXT,
    "eos_token_id": GRANITE_TEXT,
    "pad_token_id": GRANITE_TEXT,
}
YI_KIND = TokenizerKind(
    None, ("<unk>", "<|startoftext|>", TEXT, "<|Human|>", "<|Assistant|>", "<|System|>", "<|im_start|>", TURN,
        "<|im_sep|>"), unk="<unk>"
)  # fmt: skip
YI = {
    **LLAMA, "bos_token_id": "<|startoftext|>", "eos_token_id": TEXT, "pad_token_id": "<unk>",
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-06,
    "rope_scaling": None, "rope_theta": 5000000.0, "tie_word_embeddings": False, "transformers_version": "4.40.0",
}  # fmt: skip
YI_TOKENIZER = {
    **LLAMA2_TOKENIZER, "add_bos_token": False, "bos_token": "<|startoftext|>", "eos_token": TEXT, "unk_token": "<unk>",
    "pad_token": "<unk>", "legacy": True
}  # fmt: skip
INTERN_KIND = TokenizerKind(
    None,
    ("<unk>", "<s>", "</s>"),
    ("<|im_start|>", TURN, "<|action_start|>", "<|plugin|>"),
    template=("<s>", "$A"),
    unk="<unk>",
)
INTERN2 = {
    **SIZES, "architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2", "attn_implementation": "eager",
    "auto_map": {
        "AutoConfig": "configuration_internlm2.InternLM2Config",
        "AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM",
        "AutoModel": "modeling_internlm2.InternLM2ForCausalLM",
    }, "bias": False, "bos_token_id": "<s>", "eos_token_id": "</s>", "hidden_act": "silu", "initializer_range": 0.02,
    "max_position_embeddings": 32768, "pad_token_id": "</s>", "rms_norm_eps": 1e-05,
    "rope_scaling": {"type": "dynamic", "factor": 2.0},
    "rope_theta": 1000000, "tie_word_embeddings": False, "transformers_version": "4.41.0", "use_cache": True,
    "pretraining_tp": 1,
}  # fmt: skip
INTERN_TOKENIZER = {
    "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer",
        "tokenization_internlm2_fast.InternLM2TokenizerFast"]},
    "additional_special_tokens": ["<|im_start|>", TURN], "bos_token": "<s>", "clean_up_tokenization_spaces": False,
    "decode_with_prefix_space": False,
    "eos_token": "</s>", "model_max_length": UNLIMITED, "pad_token": "</s>", "sp_model_kwargs": None,
    "tokenizer_class": "InternLM2Tokenizer", "unk_token": "<unk>",
}  # fmt: skip
INTERN3 = {
    **INTERN2, "architectures": ["InternLM3ForCausalLM"], "model_type": "internlm3", "auto_map": {
        "AutoConfig": "configuration_internlm3.InternLM3Config", "AutoModel": "modeling_internlm3.InternLM3Model",
        "AutoModelForCausalLM": "modeling_internlm3.InternLM3ForCausalLM",
    }, "head_dim": 8, "qkv_bias": False, "rope_scaling": {"factor": 6.0, "rope_type": "dynamic"},
    "rope_theta": 50000000,
    "transformers_version": "4.47.1",
}  # fmt: skip
INTERN3_TOKENIZER = {
    **INTERN_TOKENIZER,
    "auto_map": {"AutoTokenizer": ["tokenization_internlm3.InternLM3Tokenizer", None]},
    "tokenizer_class": "InternLM3Tokenizer",
    "sp_model_kwargs": {},
}
ETTIN_KIND = TokenizerKind(
    "gpt2", ("|||IP_ADDRESS|||", "<|padding|>", TEXT),
    ("  ", "    ", "[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "[unused0]"),
    ordinary=("|||IP_ADDRESS|||", "  ", "    "), template=("[CLS]", "$A", "[SEP]"), nfc=True,
)  # fmt: skip
ETTIN = {
    **SIZES, "architectures": ["ModernBertDecoderForCausalLM"], "model_type": "modernbert-decoder",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": "[CLS]", "causal_mask": True, "classifier_activation": "gelu", "classifier_bias": False,
    "classifier_dropout": 0.0,
    "classifier_pooling": "mean", "cls_token_id": "[CLS]", "decoder_bias": True, "deterministic_flash_attn": False,
    "embedding_dropout": 0.0,
    "eos_token_id": "[SEP]", "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0,
    "hidden_activation": "gelu",
    "initializer_cutoff_factor": 2.0,
    "initializer_range": 0.02, "is_causal": True, "layer_norm_eps": 1e-05, "local_attention": 16,
    "local_rope_theta": 160000.0, "max_position_embeddings": 7999,
    "mlp_bias": False, "mlp_dropout": 0.0, "norm_bias": False, "norm_eps": 1e-05, "num_key_value_heads": 4,
    "pad_token_id": "[PAD]",
    "position_embedding_type": "sans_pos", "repad_logits_with_grad": False, "sep_token_id": "[SEP]",
    "sparse_pred_ignore_index": -100,
    "sparse_prediction": False, "tie_word_embeddings": True, "transformers_version": "4.48.0.dev0",
}  # fmt: skip
ETTIN_TOKENIZER = {
    "clean_up_tokenization_spaces": True, "cls_token": "[CLS]", "extra_special_tokens": {}, "mask_token": "[MASK]",
    "model_input_names": ["input_ids", "attention_mask"],
    "model_max_length": 7999, "pad_token": "[PAD]", "sep_token": "[SEP]", "tokenizer_class": "PreTrainedTokenizerFast",
    "unk_token": "[UNK]",
}  # fmt: skip

FAMILIES = (
    Family(
        "falcon3",
        Published("tiiuae/Falcon3-7B-Instruct", FALCON3, FALCON_KIND, FALCON_TOKENIZER,
            {"eos_token_id": TEXT, "_from_model_config": True}, ZEPHYR, 64, sharded=True),
        Published("tiiuae/Falcon3-1B-Base", {**FALCON3, "tie_word_embeddings": True}, FALCON_KIND, FALCON_TOKENIZER, None,
            None,
            64),
    ),
    Family(
        "olmo-2",
        Published("allenai/OLMo-2-1124-7B-Instruct", OLMO, OLMO_KIND, OLMO_TOKENIZER,
            {"eos_token_id": TEXT, "pad_token_id": "<|pad|>"}, OLMO2, 74, sharded=True, files=FILES),
        Published("allenai/OLMo-2-0425-1B", {**OLMO, "bos_token_id": None}, OLMO_KIND, OLMO_TOKENIZER,
            {"eos_token_id": TEXT},
            None, 74, dtype="float32", files=FILES),
    ),
    Family(
        "granite",
        Published("ibm-granite/granite-3.1-8b-instruct", GRANITE_CONFIG, GRANITE_KIND, GRANITE_TOKENIZER,
            GRANITE_GENERATION,
            GRANITE, sharded=True, files=FILES),
        Published("ibm-granite/granite-3.1-2b-base", GRANITE_CONFIG, GRANITE_BASE_KIND, GRANITE_BASE_TOKENIZER,
            GRANITE_GENERATION, files=FILES),
    ),
    Family(
        "yi",
        Published("01-ai/Yi-1.5-34B-Chat", YI, YI_KIND, {**YI_TOKENIZER, "eos_token": TURN},
            {"bos_token_id": "<|startoftext|>", "eos_token_id": TURN, "pad_token_id": "<unk>"}, CHATML, sharded=True,
            files=SENTENCEPIECE),
        Published("01-ai/Yi-1.5-6B", YI, YI_KIND, YI_TOKENIZER,
            {"_from_model_config": True, "bos_token_id": "<|startoftext|>", "eos_token_id": TEXT}, files=SENTENCEPIECE),
    ),
    Family(
        "internlm2.5",
        Published("internlm/internlm2_5-7b-chat", INTERN2, INTERN_KIND, INTERN_TOKENIZER,
            {"eos_token_id": ["</s>", TURN]},
            CHATML, files=SENTENCEPIECE),
        Published("internlm/internlm2_5-1_8b-chat", INTERN2, INTERN_KIND, INTERN_TOKENIZER,
            {"eos_token_id": ["</s>", TURN]},
            CHATML, files=SENTENCEPIECE),
        expected={"*": "model_type internlm2. transformers itself does not implement this type"},
    ),
    Family(
        "internlm3",
        Published("internlm/internlm3-8b-instruct", INTERN3, INTERN_KIND, INTERN3_TOKENIZER,
            {"eos_token_id": ["</s>", TURN]},
            CHATML, sharded=True, files=SENTENCEPIECE),
        Published("internlm/internlm3-8b-instruct", INTERN3, INTERN_KIND, INTERN3_TOKENIZER,
            {"eos_token_id": ["</s>", TURN]},
            CHATML, files=SENTENCEPIECE),
    ),
    Family(
        "modernbert-decoder",
        Published("jhu-clsp/ettin-decoder-1b", ETTIN, ETTIN_KIND, ETTIN_TOKENIZER, None, None, 48, dtype="float32",
            sharded=True),
        Published("jhu-clsp/ettin-decoder-17m", ETTIN, ETTIN_KIND, ETTIN_TOKENIZER, None, None, 48, dtype="float32"),
    ),
)  # fmt: skip
