"""Gemma 1, 2, 3 and 3n."""

from tests.families.family import Family, Published, TokenizerKind
from tests.families.published.meta import SENTENCEPIECE
from tests.families.published.shared import SIZES, UNLIMITED, added
from tests.families.templates import GEMMA

START, END = "<start_of_turn>", "<end_of_turn>"
ROLES = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "[multimodal]")
LAYOUT = ("\n\n", "\n\n\n", "▁▁", "▁▁▁▁", "<table>", "</table>")
UNUSED = tuple(f"<unused{number}>" for number in range(6))
GEMMA_KIND = TokenizerKind(
    None, (*ROLES, *UNUSED, START, END, *LAYOUT), ordinary=LAYOUT, template=("<bos>", "$A"), unk="<unk>"
)
IMAGES = ("<start_of_image>", "<end_of_image>")
GEMMA3_KIND = TokenizerKind(
    None, (*ROLES, *UNUSED, START, END, *LAYOUT, *IMAGES), last=("<image_soft_token>",),
    ordinary=(*LAYOUT, "<image_soft_token>"),
    template=("<bos>", "$A"), unk="<unk>",
)  # fmt: skip
# The small one has no row for images: its tokenizer has the token all the same, beyond the rows in use.
IDS = {"bos_token_id": "<bos>", "eos_token_id": "<eos>", "pad_token_id": "<pad>"}
CHAT_IDS = {**IDS, "eos_token_id": ["<eos>", END]}
TOKENIZER = {
    "add_bos_token": True, "add_eos_token": False, "additional_special_tokens": [START, END], "bos_token": "<bos>",
    "clean_up_tokenization_spaces": False, "eos_token": "<eos>", "model_max_length": UNLIMITED, "pad_token": "<pad>",
    "sp_model_kwargs": {}, "spaces_between_special_tokens": False, "tokenizer_class": "GemmaTokenizer",
    "unk_token": "<unk>",
    "use_default_system_prompt": False,
}  # fmt: skip
GEMMA1 = {
    **SIZES, **IDS, "architectures": ["GemmaForCausalLM"], "model_type": "gemma", "attention_bias": False,
    "attention_dropout": 0.0,
    "head_dim": 16, "hidden_act": "gelu", "hidden_activation": None, "initializer_range": 0.02,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 10000.0, "transformers_version": "4.38.0.dev0",
    "use_cache": True,
}  # fmt: skip
GEMMA2 = {
    **GEMMA1, "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "attn_logit_softcapping": 50.0,
    "cache_implementation": "hybrid",
    "final_logit_softcapping": 30.0, "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 16, "sliding_window": 8, "sliding_window_size": 8, "transformers_version": "4.42.0.dev0",
}  # fmt: skip
GEMMA3_TEXT = {
    **GEMMA2, **CHAT_IDS, "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text",
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None, "max_position_embeddings": 32768, "rope_local_base_freq": 10000,
    "rope_theta": 1000000,
    "sliding_window_pattern": 6, "transformers_version": "4.50.0.dev0",
}  # fmt: skip
VISION = {
    "hidden_size": 16, "image_size": 28, "intermediate_size": 16, "model_type": "siglip_vision_model",
    "num_attention_heads": 2,
    "num_hidden_layers": 1, "patch_size": 14, "vision_use_head": False,
}  # fmt: skip
GEMMA3 = {
    "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "boi_token_index": IMAGES[0],
    "eoi_token_index": IMAGES[1],
    "eos_token_id": ["<eos>", END], "image_token_index": "<image_soft_token>", "initializer_range": 0.02,
    "mm_tokens_per_image": 4,
    "text_config": {
        **SIZES, "head_dim": 16, "query_pre_attn_scalar": 16, "model_type": "gemma3_text",
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 8,
    },
    "transformers_version": "4.50.0.dev0", "vision_config": VISION,
}  # fmt: skip
GEMMA3_TOKENIZER = {
    **TOKENIZER,
    "boi_token": IMAGES[0],
    "eoi_token": IMAGES[1],
    "image_token": "<image_soft_token>",
    "processor_class": "Gemma3Processor",
    "extra_special_tokens": {"boi_token": IMAGES[0], "eoi_token": IMAGES[1], "image_token": "<image_soft_token>"},
}
GEMMA3N = {
    **SIZES, **CHAT_IDS, "architectures": ["Gemma3nForCausalLM"], "model_type": "gemma3n_text",
    "activation_sparsity_pattern": [0.95, 0.0],
    "altup_active_idx": 0, "altup_coef_clip": 120.0, "altup_correct_scale": True, "altup_num_inputs": 4,
    "attention_bias": False,
    "attention_dropout": 0.0, "final_logit_softcapping": 30.0, "head_dim": 16, "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size_per_layer_input": 8, "intermediate_size": [64, 64], "laurel_rank": 4,
    "layer_types": ["sliding_attention", "full_attention"],
    "max_position_embeddings": 32768, "num_kv_shared_layers": 0, "query_pre_attn_scalar": 16, "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000.0,
    "rope_scaling": None, "rope_theta": 1000000.0, "sliding_window": 8, "transformers_version": "4.53.0.dev0",
    "vocab_size_per_layer_input": 300,
}  # fmt: skip
GEMMA3N_WHOLE = {
    "architectures": ["Gemma3nForConditionalGeneration"], "model_type": "gemma3n",
    "audio_config": {"model_type": "gemma3n_audio"},
    "audio_soft_tokens_per_image": 188, "eos_token_id": ["<eos>", END], "image_token_id": "<image_soft_token>",
    "initializer_range": 0.02, "text_config": {key: value for key, value in GEMMA3N.items() if key != "architectures"},
    "transformers_version": "4.53.0.dev0", "vision_soft_tokens_per_image": 256,
    "vision_config": {"architecture": "mobilenetv5_300m_enc", "do_pooling": False, "model_type": "gemma3n_vision"},
}  # fmt: skip
SAMPLED = {"cache_implementation": "hybrid", "do_sample": True, "top_k": 64, "top_p": 0.95}

FAMILIES = (
    Family(
        "gemma",
        Published("google/gemma-7b-it", GEMMA1, GEMMA_KIND, {**TOKENIZER, "bos_token": added("<bos>")}, IDS, GEMMA,
            sharded=True, files=SENTENCEPIECE),
        Published("google/gemma-2b", GEMMA1, GEMMA_KIND, TOKENIZER, IDS, files=SENTENCEPIECE),
    ),
    Family(
        "gemma-2",
        Published("google/gemma-2-9b-it", GEMMA2, GEMMA_KIND, TOKENIZER, {**CHAT_IDS, "cache_implementation": "hybrid"},
            GEMMA,
            sharded=True, files=SENTENCEPIECE),
        Published("google/gemma-2-2b", GEMMA2, GEMMA_KIND, TOKENIZER, {**IDS, "cache_implementation": "hybrid"},
            files=SENTENCEPIECE),
    ),
    Family(
        "gemma-3",
        Published("google/gemma-3-4b-it", GEMMA3, GEMMA3_KIND, GEMMA3_TOKENIZER, {**CHAT_IDS, **SAMPLED}, GEMMA, 63,
            sharded=True, files=SENTENCEPIECE),
        Published("google/gemma-3-1b-it", GEMMA3_TEXT, GEMMA3_KIND, GEMMA3_TOKENIZER, {**CHAT_IDS, **SAMPLED}, GEMMA,
            -1,
            files=SENTENCEPIECE),
    ),
    Family(
        "gemma-3-4b",
        Published("google/gemma-3-27b-it", GEMMA3, GEMMA3_KIND, GEMMA3_TOKENIZER, {**CHAT_IDS, **SAMPLED}, GEMMA, 63,
            sharded=True, files=SENTENCEPIECE),
        Published("google/gemma-3-4b-it", GEMMA3, GEMMA3_KIND, GEMMA3_TOKENIZER, {**CHAT_IDS, **SAMPLED}, GEMMA, 63,
            files=SENTENCEPIECE),
    ),
    Family(
        "gemma-3-1b",
        Published("google/gemma-3-1b-it", GEMMA3_TEXT, GEMMA3_KIND, GEMMA3_TOKENIZER, {**CHAT_IDS, **SAMPLED}, GEMMA,
            -1,
            sharded=True, files=SENTENCEPIECE),
        Published("google/gemma-3-270m", {**GEMMA3_TEXT, **IDS, "use_bidirectional_attention": False}, GEMMA3_KIND,
            GEMMA3_TOKENIZER, {**IDS, **SAMPLED}, None, -1, files=SENTENCEPIECE),
    ),
    Family(
        "gemma-3n-whole",
        Published("google/gemma-3n-E4B-it", GEMMA3N_WHOLE, GEMMA3_KIND, GEMMA3_TOKENIZER, {**CHAT_IDS, **SAMPLED}, GEMMA,
            files=SENTENCEPIECE),
        Published("google/gemma-3n-E2B-it", GEMMA3N_WHOLE, GEMMA3_KIND, GEMMA3_TOKENIZER, {**CHAT_IDS, **SAMPLED}, GEMMA,
            files=SENTENCEPIECE),
        expected={"*": ", which transformers builds a gemma3n with, got no "}, lacks="timm",  # or pillow, if that lacks, too
    ),
    Family(
        "gemma-3n",
        Published("google/gemma-3n-E4B-it", GEMMA3N, GEMMA3_KIND, GEMMA3_TOKENIZER, {**CHAT_IDS, **SAMPLED}, GEMMA,
            files=SENTENCEPIECE),
        Published("google/gemma-3n-E2B-it", GEMMA3N, GEMMA3_KIND, GEMMA3_TOKENIZER, {**CHAT_IDS, **SAMPLED}, GEMMA,
            files=SENTENCEPIECE),
    ),
)  # fmt: skip
