"""vLLM: a standalone drafter (``method: draft_model``), pruned with a tokenizer of its own or padded to the target's rows."""

import json

from drafters.export.checkpoint import write_full, write_padded
from drafters.export.common import DIR, LENGTH, TARGET, Exported, ExportRequest, Format

PARALLEL = "The drafter runs with the target's tensor parallel size; another draft_tensor_parallel_size is refused."


def serve_command(**options: object) -> str:
    """Return the ``vllm serve`` line for a speculative configuration."""
    drafter = {"method": "draft_model", "model": DIR, "num_speculative_tokens": LENGTH, **options}
    return f"vllm serve {TARGET} --speculative-config '{json.dumps(drafter)}'"


def _full(request: ExportRequest) -> Exported:
    return Exported(
        serve=serve_command(use_heterogeneous_vocab=True, draft_sample_method="greedy"),
        limits=(
            "Greedy drafting only (draft_sample_method must be greedy); the target may sample.",
            "Runs on vLLM's V1 model runner, which is deprecated: V2 has no use_heterogeneous_vocab. Never set "
            "VLLM_USE_V2_MODEL_RUNNER=1: the map of tokens is then left out without a word (0.33.0).",
            PARALLEL,
            "Text only; not with use_local_argmax_reduction.",
            "vLLM maps tokens by their strings; a token of the context that the drafter lacks becomes its unk row.",
            *request.short_of("the V1 runner drafts token 0 for the whole batch: keep --max-model-len at or below it"),
        ),
        checked=write_full(request, placeholder=True),
    )


def _padded(request: ExportRequest) -> Exported:
    return Exported(
        serve=serve_command(),
        limits=(
            "The head is unpruned: the whole vocabulary's cost per drafted token.",
            "Runs on vLLM's V2 model runner, which has no CUDA graph for such a drafter (0.33.0).",
            PARALLEL,
            *request.short_of("vLLM lowers the served context (max_model_len of the target) to it"),
        ),
        checked=write_padded(request),
    )


NO_MAP = (
    "no released vLLM reads a list of kept tokens for a drafter (0.33.0 refuses the field draft_token_map); use form=full, or "
    "to=speculators to train a head with this vocabulary"
)
FORMAT = Format("vllm", {"full": _full, "padded": _padded}, {"map": NO_MAP})
