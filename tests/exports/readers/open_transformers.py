"""transformers: open a folder, with logits of some ids; tokens of texts. FOLDER IDS TEXTS OUT"""

import json
import sys

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, ids, texts, out = sys.argv[1], *map(json.loads, sys.argv[2:4]), sys.argv[4]
stored, report = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
with torch.inference_mode():
    save_file({"logits": model(torch.tensor([ids])).logits.contiguous()}, out)
print(json.dumps({
    "version": transformers.__version__,
    "dtype": str(stored.dtype),
    "missing": sorted(map(str, report["missing_keys"])),
    "tied": model.lm_head.weight is model.get_input_embeddings().weight if hasattr(model, "lm_head") else None,
    "tokens": [tokenizer(text)["input_ids"] for text in texts],
    "specials": sorted(map(str, tokenizer.all_special_tokens)),
    "length": model.generation_config.num_assistant_tokens,
}))  # fmt: skip
