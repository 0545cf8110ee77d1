"""SGLang: a list of hot tokens for an EAGLE drafter (FR-Spec), or the unpruned drafter as a standalone one."""

import torch

from drafters.export.checkpoint import write_padded
from drafters.export.common import AND_ONE, Exported, ExportRequest, Format
from drafters.export.kept_ids import target_ids

MAP = "hot_tokens.pt"
LAUNCH = "python -m sglang.launch_server --model-path {target} --speculative-algorithm {algorithm} {rest}"


def _map(request: ExportRequest) -> Exported:
    ids = target_ids(request.package).tolist()
    path = request.out / MAP
    # The one pickle that Drafters writes, because SGLang reads nothing else: a plain list of integers, which
    # weights_only accepts. It is never opened by anything but this check.
    torch.save(ids, path)
    if torch.load(path, weights_only=True) != ids:
        raise RuntimeError(f"{MAP} does not give back the {len(ids)} ids that were written")
    rest = f"--speculative-draft-model-path EAGLE_HEAD --speculative-token-map DIR/{MAP}"
    return Exported(
        serve=LAUNCH.format(target=request.target, algorithm="EAGLE", rest=rest),
        limits=(
            "For an EAGLE or EAGLE-2 head (EAGLE_HEAD) that shares the target's head; ignored for EAGLE-3, which brings "
            "its own map. Never give it to STANDALONE: ids would be remapped although the head is whole.",
        ),
        checked=f"{len(ids):,} target ids, opened as SGLang opens them (torch.load, weights_only)",
    )


def _padded(request: ExportRequest) -> Exported:
    rest = f"--speculative-draft-model-path DIR --speculative-num-draft-tokens {AND_ONE}"
    return Exported(
        serve=LAUNCH.format(target=request.target, algorithm="STANDALONE", rest=rest),
        limits=("The head is unpruned: SGLang wants equal sizes and equal tokenizers.",),
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
