"""SGLang: a list of hot tokens for an EAGLE drafter (FR-Spec), or the unpruned drafter as a standalone one."""

import torch

from drafters.export.checkpoint import write_padded
from drafters.export.common import AND_ONE, DIR, LENGTH, TARGET, Exported, ExportRequest, Format
from drafters.export.kept_ids import target_ids

MAP = "hot_tokens.pt"
LAUNCH = f"python -m sglang.launch_server --model-path {TARGET} --speculative-algorithm"
# A chain. SGLang takes the three together or not at all (srt/arg_groups/speculative_hook.py `_handle_eagle_family`, 0.5.23).
CHAIN = f"--speculative-num-steps {LENGTH} --speculative-eagle-topk 1 --speculative-num-draft-tokens {AND_ONE}"


def _map(request: ExportRequest) -> Exported:
    ids = target_ids(request.package).tolist()
    path = request.out / MAP
    # The one pickle that Drafters writes, because SGLang reads nothing else: a plain list of integers, which
    # weights_only accepts. It is never opened by anything but this check.
    torch.save(ids, path)
    if torch.load(path, weights_only=True) != ids:
        raise RuntimeError(f"{MAP} does not give back the {len(ids)} ids that were written")
    return Exported(
        serve=f"{LAUNCH} EAGLE --speculative-draft-model-path EAGLE_HEAD --speculative-token-map {DIR}/{MAP}",
        limits=(
            "For an EAGLE or EAGLE-2 head (EAGLE_HEAD) that shares the target's head. An EAGLE-3 head brings its own map; under "
            "EAGLE it accepts nothing, without a word.",
            "One GPU: with tensor parallelism SGLang indexes a part of the head with ids of the whole (0.5.23).",
            "Not with --speculative-use-rejection-sampling, which cannot use a reduced vocabulary.",
            "Never give it to STANDALONE: ids would be remapped although the head is whole.",
        ),
        checked=f"{len(ids):,} target ids, opened as SGLang opens them (torch.load, weights_only)",
    )


def _padded(request: ExportRequest) -> Exported:
    return Exported(
        serve=f"{LAUNCH} STANDALONE --speculative-draft-model-path {DIR} {CHAIN}",
        limits=(
            "The head is unpruned: SGLang wants as many rows as the target has, and uses the target's tokenizer.",
            "Not with data parallel attention.",
            *request.short_of(
                "SGLang refuses the drafter of a longer target: --context-length of at most that, or "
                "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1 at your own risk"
            ),
        ),
        checked=write_padded(request),
    )


FORMAT = Format(
    "sglang",
    {"map": _map, "padded": _padded},
    {
        "full": "SGLang's STANDALONE drafter must have exactly the target's vocabulary and tokenizer, so it refuses a "
        "pruned model; use form=padded (unpruned), form=map (an EAGLE head), or to=vllm form=full"
    },
)
