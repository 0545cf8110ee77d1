"""Phi-3, 3.5 and 4."""

from tests.families.family import Family, Published, TokenizerKind
from tests.families.published.alibaba import FILES, GENERATION, QWEN25_KIND, SMALL
from tests.families.published.alibaba import TOKENIZER as QWEN_TOKENIZER
from tests.families.published.meta import LLAMA2_TOKENIZER, SENTENCEPIECE
from tests.families.published.shared import GPT4_SPLIT, O200K_SPLIT, SIZES, added
from tests.families.templates import CHATML, PHI3, PHI4

TEXT = "<|endoftext|>"
TURNS = (
    "<|assistant|>",
    "<|placeholder1|>",
    "<|placeholder2|>",
    "<|system|>",
    "<|end|>",
    "<|placeholder5|>",
    "<|user|>",
)
PHI3_KIND = TokenizerKind(None, ("<unk>", "<s>", "</s>"), (TEXT, *TURNS), prefix=True, unk="<unk>", rstrip=True)
MAP = {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}
PHI3_CONFIG = {
    **SIZES, "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "auto_map": MAP, "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": "<s>", "embd_pdrop": 0.0, "eos_token_id": TEXT, "hidden_act": "silu", "initializer_range": 0.02,
    "max_position_embeddings": 4096, "num_key_value_heads": 4, "original_max_position_embeddings": 4096,
    "pad_token_id": TEXT, "resid_pdrop": 0.0,
    "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0, "sliding_window": 2047,
    "tie_word_embeddings": False,
    "transformers_version": "4.40.2", "use_cache": True,
}  # fmt: skip
LONG = {"long_factor": [1.08, 1.11, 1.14, 1.34], "short_factor": [1.0, 1.02, 1.03, 1.03], "type": "longrope"}
PHI35_CONFIG = {**PHI3_CONFIG, "max_position_embeddings": 131072, "rope_scaling": LONG, "sliding_window": 262144}
PHI3_TOKENIZER = {
    **LLAMA2_TOKENIZER,
    "add_bos_token": False,
    "eos_token": TEXT,
    "pad_token": TEXT,
    "padding_side": "left",
    "bos_token": "<s>",
    "unk_token": "<unk>",
}
PHI3_GENERATION = {"bos_token_id": "<s>", "eos_token_id": ["<|end|>", "<|assistant|>", TEXT], "pad_token_id": TEXT}
START, SEP, END = "<|im_start|>", "<|im_sep|>", "<|im_end|>"
PHI4_KIND = TokenizerKind(
    GPT4_SPLIT, learnt=150, last=(TEXT, "<|fim_prefix|>", START, END, SEP, "<|dummy_0|>", "<|dummy_1|>")
)
PHI4_CONFIG = {
    **PHI3_CONFIG, "bos_token_id": TEXT, "eos_token_id": TEXT, "pad_token_id": TEXT, "max_position_embeddings": 16384,
    "num_key_value_heads": 2,
    "original_max_position_embeddings": 16384, "rope_theta": 250000, "sliding_window": None,
}  # fmt: skip
PHI4_CONFIG.pop("auto_map")
PHI4_TOKENIZER = {
    "add_prefix_space": False, "bos_token": TEXT, "clean_up_tokenization_spaces": False, "eos_token": END,
    "model_max_length": 16384,
    "pad_token": "<|dummy_1|>", "tokenizer_class": "GPT2Tokenizer", "unk_token": "�",
}  # fmt: skip
MINI_KIND = TokenizerKind(O200K_SPLIT, last=(TEXT, "<|endofprompt|>", *TURNS, "<|tool|>"))
MINI = {
    **PHI3_CONFIG, "bos_token_id": TEXT, "full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": False,
    "mlp_bias": False,
    "num_key_value_heads": 2, "partial_rotary_factor": 0.75, "max_position_embeddings": 131072, "rope_scaling": {
        "long_factor": [1.0, 1.11, 1.25], "short_factor": [1.0, 1.0, 1.0], "type": "longrope"
    }, "sliding_window": 262144, "tie_word_embeddings": True,
}  # fmt: skip
MINI_TOKENIZER = {
    "add_bos_token": False, "add_eos_token": False, "add_prefix_space": False, "bos_token": TEXT,
    "clean_up_tokenization_spaces": False,
    "eos_token": TEXT, "model_max_length": 131072, "pad_token": TEXT, "tokenizer_class": "GPT2Tokenizer",
    "unk_token": TEXT,
}  # fmt: skip
MINI_GENERATION = {"bos_token_id": TEXT, "eos_token_id": ["<|end|>", TEXT], "pad_token_id": TEXT}

FAMILIES = (
    Family(
        "phi-3",
        Published("microsoft/Phi-3-medium-4k-instruct", PHI3_CONFIG, PHI3_KIND,
            {**PHI3_TOKENIZER, "bos_token": added("<s>")},
            PHI3_GENERATION, PHI3, 21, sharded=True, files=SENTENCEPIECE),
        Published("microsoft/Phi-3-mini-4k-instruct", PHI3_CONFIG, PHI3_KIND, PHI3_TOKENIZER, PHI3_GENERATION, PHI3, 21,
            files=SENTENCEPIECE),
    ),
    Family(
        "phi-3.5",
        Published("microsoft/Phi-3-medium-128k-instruct", PHI35_CONFIG, PHI3_KIND, PHI3_TOKENIZER, PHI3_GENERATION, PHI3,
            21,
            sharded=True, files=SENTENCEPIECE),
        Published("microsoft/Phi-3.5-mini-instruct", PHI35_CONFIG, PHI3_KIND, PHI3_TOKENIZER, PHI3_GENERATION, PHI3, 21,
            files=SENTENCEPIECE),
    ),
    Family(  # no small model of its vocabulary exists; Qwen's begins with the same tokens and goes on
        "phi-4",
        Published("microsoft/phi-4", PHI4_CONFIG, PHI4_KIND, PHI4_TOKENIZER,
            {"bos_token_id": TEXT, "eos_token_id": [TEXT, END]}, PHI4, 8, sharded=True),
        Published("Qwen/Qwen2.5-0.5B-Instruct", SMALL, QWEN25_KIND, QWEN_TOKENIZER, GENERATION, CHATML, 16,
            files=FILES),
        expected={"export */padded": "form=padded needs the target's own"},
    ),
    Family(
        "phi-4-mini",
        Published("microsoft/Phi-4-mini-reasoning", MINI, MINI_KIND, MINI_TOKENIZER, MINI_GENERATION, PHI3, 35,
            sharded=True),
        Published("microsoft/Phi-4-mini-instruct", MINI, MINI_KIND, MINI_TOKENIZER, MINI_GENERATION, PHI3, 35),
    ),
)  # fmt: skip
