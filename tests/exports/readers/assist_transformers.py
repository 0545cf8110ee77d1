"""transformers: greedy with and without the assistant, then sampling with it. TARGET FOLDER SAME(0|1) TEXT"""

import json
import sys

import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

target, folder, same, text = sys.argv[1:]
model, assistant = (AutoModelForCausalLM.from_pretrained(name, dtype="float32").eval() for name in (target, folder))
tokenizer = AutoTokenizer.from_pretrained(target)
inputs = tokenizer(text, return_tensors="pt")
options = {"max_new_tokens": 24, "pad_token_id": 0}
pair = {"assistant_model": assistant}
if same == "0":
    pair |= {"tokenizer": tokenizer, "assistant_tokenizer": AutoTokenizer.from_pretrained(folder)}
forwards = []
assistant.register_forward_hook(lambda *arguments: forwards.append(1))
plain = model.generate(**inputs, **options, do_sample=False)[0].tolist()
drafted = model.generate(**inputs, **options, do_sample=False, **pair)[0].tolist()
count = len(forwards)
try:
    model.generate(**inputs, **options, do_sample=True, **pair)
    sampled = "runs"
except Exception as error:
    sampled = f"{type(error).__name__}: {error}"
print(json.dumps({
    "version": transformers.__version__, "plain": plain, "drafted": drafted, "forwards": count, "sampled": sampled,
}))  # fmt: skip
