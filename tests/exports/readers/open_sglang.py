"""SGLang: its token map, its draft model's config and its rule for the flags. TARGET MAP FLAGS"""

import argparse
import json
import sys
from importlib import metadata

from sglang.srt.arg_groups import speculative_hook
from sglang.srt.configs.model_config import ModelConfig
from sglang.srt.server_args import ServerArgs
from sglang.srt.speculative.spec_utils import load_token_map

target, tokens, flags = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
parser = argparse.ArgumentParser()
ServerArgs.add_cli_args(parser)
ServerArgs.__post_init__ = lambda self: None  # it looks for GPUs; the rules for speculation are called by themselves


def resolve(words):
    arguments = ServerArgs.from_cli_args(parser.parse_args([*words, "--device", "cpu"]))
    speculative_hook._handle_eagle_family(arguments)
    return arguments


arguments = resolve(flags)
place = flags.index("--speculative-num-steps")
try:
    resolve(flags[:place] + flags[place + 2 :])
    alone = "accepted"
except AssertionError:
    alone = "AssertionError"
main = ModelConfig(model_path=target, dtype="auto")
options = {"model_path": arguments.speculative_draft_model_path, "dtype": "auto", "is_draft_model": True}
draft = ModelConfig(**options, context_length=main.context_len)
try:
    ModelConfig(**options, context_length=draft.context_len + 1)
    longer = "accepted"
except ValueError:
    longer = "ValueError"
print(json.dumps({
    "version": metadata.version("sglang"),
    "map": load_token_map(tokens).tolist(),
    "flags": [arguments.speculative_num_steps, arguments.speculative_eagle_topk, arguments.speculative_num_draft_tokens],
    "without_steps": alone,
    "dtypes": [str(main.dtype), str(draft.dtype)],
    "rows": [main.vocab_size, draft.vocab_size],
    "context": draft.context_len,
    "longer_target": longer,
    "tied": draft.hf_config.tie_word_embeddings,
}))  # fmt: skip
