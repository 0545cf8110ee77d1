# ruff: noqa: RUF001 - a pattern is written as it is published
"""GPT-2, Pythia, OPT and BLOOM."""

from tests.families.family import Family, Published, TokenizerKind
from tests.families.published.alibaba import FILES
from tests.families.published.shared import SIZES, added

TEXT = "<|endoftext|>"
GPT2_KIND = TokenizerKind("gpt2", last=(TEXT,))
GPT2 = {
    "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new", "attn_pdrop": 0.1,
    "bos_token_id": TEXT,
    "embd_pdrop": 0.1, "eos_token_id": TEXT, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "n_ctx": 512,
    "n_embd": 32, "n_head": 4,
    "n_layer": 2, "n_positions": 512, "output_past": True, "resid_pdrop": 0.1, "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True, "summary_type": "cls_index", "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
}  # fmt: skip
DISTIL = {**GPT2, "_num_labels": 1, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
NEOX_KIND = TokenizerKind(
    "gpt2",
    (TEXT, "<|padding|>"),
    ("                ", "    ", "  "),
    ordinary=("                ", "    ", "  "),
    nfc=True,
)
NEOX = {
    **SIZES, "architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "bos_token_id": TEXT,
    "eos_token_id": TEXT,
    "hidden_act": "gelu",
    "initializer_range": 0.02, "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "rotary_emb_base": 10000,
    "rotary_pct": 0.25,
    "tie_word_embeddings": False, "transformers_version": "4.24.0", "use_cache": True, "use_parallel_residual": True,
}  # fmt: skip
NEOX.pop("num_key_value_heads")
NEOX_TOKENIZER = {
    "add_prefix_space": False, "bos_token": TEXT, "eos_token": TEXT, "tokenizer_class": "GPTNeoXTokenizer",
    "unk_token": TEXT,
    "name_or_path": "EleutherAI/gpt-neox-20b", "special_tokens_map_file": "/admin/home/cache/special_tokens_map.json",
}  # fmt: skip
OPT_KIND = TokenizerKind("gpt2", ("<s>", "<pad>", "</s>", "<unk>"), template=("</s>", "$A"))
OPT = {
    "architectures": ["OPTForCausalLM"], "model_type": "opt", "_remove_final_layer_norm": False,
    "activation_dropout": 0.0,
    "activation_function": "relu",
    "attention_dropout": 0.0, "bos_token_id": "</s>", "do_layer_norm_before": True, "dropout": 0.1,
    "eos_token_id": "</s>",
    "ffn_dim": 64,
    "hidden_size": 32, "init_std": 0.02, "layerdrop": 0.0, "max_position_embeddings": 512, "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "pad_token_id": "<pad>", "prefix": "</s>", "transformers_version": "4.21.0.dev0", "use_cache": True,
    "word_embed_proj_dim": 32,
}  # fmt: skip
SMALL_OPT = {**OPT, "do_layer_norm_before": False, "word_embed_proj_dim": 16}
OPT_TOKENIZER = {
    "add_bos_token": True, "add_prefix_space": False, "bos_token": added("</s>", normalized=True),
    "eos_token": added("</s>", normalized=True), "errors": "replace",
    "pad_token": added("<pad>", normalized=True), "special_tokens_map_file": None, "tokenizer_class": "GPT2Tokenizer",
    "unk_token": added("</s>", normalized=True),
}  # fmt: skip
BLOOM_KIND = TokenizerKind(r" ?[^(\s|[.,!?…。，、।۔،])]+", ("<unk>", "<s>", "</s>", "<pad>"), unk=None)
BLOOM = {
    "architectures": ["BloomForCausalLM"], "model_type": "bloom", "apply_residual_connection_post_layernorm": False,
    "attention_dropout": 0.0,
    "attention_softmax_in_fp32": True, "bias_dropout_fusion": True, "bos_token_id": "<s>", "eos_token_id": "</s>",
    "hidden_dropout": 0.0,
    "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "masked_softmax_fusion": True, "n_head": 4, "n_inner": None,
    "n_layer": 2,
    "hidden_size": 32, "offset_alibi": 100, "pad_token_id": "<pad>", "pretraining_tp": 1, "seq_length": 2048,
    "skip_bias_add": True,
    "skip_bias_add_qkv": False, "slow_but_exact": False, "transformers_version": "4.20.0", "unk_token_id": "<unk>",
    "use_cache": True,
}  # fmt: skip
BLOOM_TOKENIZER = {
    "add_prefix_space": False, "bos_token": "<s>", "eos_token": "</s>", "name_or_path": "bigscience/tokenizer",
    "pad_token": "<pad>",
    "padding_side": "left", "special_tokens_map_file": None, "tokenizer_class": "BloomTokenizerFast",
    "unk_token": "<unk>",
}  # fmt: skip
ENDS = {"_from_model_config": True, "bos_token_id": TEXT, "eos_token_id": TEXT}

FAMILIES = (
    Family(
        "gpt2",
        Published("openai-community/gpt2-xl", GPT2, GPT2_KIND, {"model_max_length": 512}, ENDS, dtype="float32",
            decoder=False,
            files=FILES),
        Published("distilbert/distilgpt2", DISTIL, GPT2_KIND, {"model_max_length": 512}, ENDS, dtype="float32",
            decoder=False,
            files=FILES),
    ),
    Family(
        "pythia",
        Published("EleutherAI/pythia-6.9b", NEOX, NEOX_KIND, NEOX_TOKENIZER, ENDS, padding=40, dtype="float16",
            sharded=True,
            decoder=False),
        Published("EleutherAI/pythia-70m", NEOX, NEOX_KIND, NEOX_TOKENIZER, ENDS, padding=24, dtype="float16",
            decoder=False),
    ),
    Family(
        "opt",
        Published("facebook/opt-6.7b", OPT, OPT_KIND, OPT_TOKENIZER,
            {"bos_token_id": "</s>", "eos_token_id": "</s>", "pad_token_id": "<pad>"}, padding=7, dtype="float16",
            sharded=True,
            decoder=False, files=FILES[1:]),
        Published("facebook/opt-350m", SMALL_OPT, OPT_KIND, OPT_TOKENIZER,
            {"bos_token_id": "</s>", "eos_token_id": "</s>", "pad_token_id": "<pad>"}, padding=7, dtype="float16",
            decoder=False,
            files=FILES[1:]),
    ),
    Family(
        "bloom",
        Published("bigscience/bloom-7b1", BLOOM, BLOOM_KIND, BLOOM_TOKENIZER,
            {"bos_token_id": "<s>", "eos_token_id": "</s>", "pad_token_id": "<pad>"}, padding=64, dtype="float16",
            sharded=True,
            decoder=False),
        Published("bigscience/bloom-560m", BLOOM, BLOOM_KIND, BLOOM_TOKENIZER,
            {"bos_token_id": "<s>", "eos_token_id": "</s>", "pad_token_id": "<pad>"}, padding=64, dtype="float16",
            decoder=False),
        expected=dict.fromkeys(("doctor", "generate"), "bloom: takes no position_ids"),
    ),
)  # fmt: skip
