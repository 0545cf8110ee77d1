"""vLLM: its speculative config, its map of vocabularies and its own model class filled from a folder. TARGET OPTIONS OUT"""

import json
import sys
import tempfile

import torch
from safetensors.torch import save_file

for name in ("empty_cache", "synchronize", "reset_peak_memory_stats"):
    setattr(torch.accelerator, name, lambda *arguments, **options: None)  # no accelerator here

import vllm
import vllm.platforms as platforms
from vllm.platforms.cpu import CpuPlatform

platforms._current_platform = CpuPlatform()
from vllm.config import (
    DeviceConfig,
    LoadConfig,
    ModelConfig,
    ParallelConfig,
    SpeculativeConfig,
    VllmConfig,
    set_current_vllm_config,
)
from vllm.distributed import init_distributed_environment, initialize_model_parallel
from vllm.model_executor.model_loader import get_model
from vllm.model_executor.models import registry
from vllm.tokenizers import get_tokenizer
from vllm.v1.spec_decode.vocab_mapping import VocabMapping

registry._run_in_subprocess = lambda call: call()  # what it inspects there it inspects here
target, options, out = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
main = ModelConfig(model=target)
found = SpeculativeConfig(**options, target_model_config=main, target_parallel_config=ParallelConfig())
draft = found.draft_model_config
facts = {
    "version": vllm.__version__, "dtype": str(draft.dtype), "context": draft.max_model_len, "rows": draft.get_vocab_size(),
    "tokens": found.num_speculative_tokens,
}  # fmt: skip
tables = {}
if found.use_heterogeneous_vocab:
    tokenizers = get_tokenizer(target), get_tokenizer(options["model"])
    mapping = VocabMapping(*tokenizers, main.get_vocab_size(), draft.get_vocab_size(), "cpu")
    tables = {"to_target": mapping.draft_to_target_ids, "to_draft": mapping.target_to_draft_ids}
    facts |= {
        "unk": mapping.draft_unk_token_id,
        "draft_strings": tokenizers[1].convert_ids_to_tokens(range(len(tokenizers[1]))),
    }
config = VllmConfig(model_config=draft, load_config=LoadConfig(), device_config=DeviceConfig(device="cpu"))
with set_current_vllm_config(config):
    init_distributed_environment(1, 0, f"file://{tempfile.mktemp()}", 0, "gloo")
    initialize_model_parallel(1)
    model = get_model(vllm_config=config, model_config=draft)
rows = draft.get_vocab_size()
tables |= {
    "head": model.lm_head.weight[:rows],
    "table": model.model.embed_tokens.weight[:rows],
    "norm": model.model.norm.weight,
}
save_file({name: tensor.detach().clone().contiguous() for name, tensor in tables.items()}, out)
print(json.dumps(facts))
