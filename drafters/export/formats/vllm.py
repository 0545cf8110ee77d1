"""vLLM: a standalone drafter (``method: draft_model``), or the kept ids for a head that drafts with the target's own."""

import json

from drafters.export.checkpoint import write_full, write_padded
from drafters.export.common import LENGTH, Exported, ExportRequest, Format
from drafters.export.kept_ids import target_ids

MAP = "draft_token_map.json"


def serve_command(target: str, options: dict[str, object]) -> str:
    """``vllm serve`` with a speculative configuration."""
    return f"vllm serve {target} --speculative-config '{json.dumps(options)}'"


def _full(request: ExportRequest) -> Exported:
    options = {
        "method": "draft_model",
        "model": "DIR",
        "num_speculative_tokens": LENGTH,
        "use_heterogeneous_vocab": True,
        "draft_sample_method": "greedy",
    }
    return Exported(
        serve=serve_command(request.target, options),
        limits=(
            "Greedy drafting only (draft_sample_method must be greedy); the target may sample.",
            "Text only; not with use_local_argmax_reduction.",
            "vLLM maps tokens by their strings; a token of the context that the drafter lacks becomes its unk row.",
        ),
        checked=write_full(request),
    )


def _padded(request: ExportRequest) -> Exported:
    options: dict[str, object] = {"method": "draft_model", "model": "DIR", "num_speculative_tokens": LENGTH}
    return Exported(
        serve=serve_command(request.target, options),
        limits=("The head is unpruned: the whole vocabulary's cost per drafted token.",),
        checked=write_padded(request),
    )


def _map(request: ExportRequest) -> Exported:
    ids = target_ids(request.package).tolist()
    path = request.out / MAP
    path.write_text(json.dumps(ids) + "\n", encoding="utf-8")
    read = json.loads(path.read_text(encoding="utf-8"))
    if read != ids or sorted(set(read)) != read:
        raise RuntimeError(f"{MAP} does not hold the {len(ids)} ascending target ids that were written")
    options = {"method": "mtp", "num_speculative_tokens": 1, "draft_token_map": f"DIR/{MAP}"}
    return Exported(
        serve=serve_command(request.target, options),
        limits=(
            "For drafters that share the target's head (multi-token prediction); vLLM refuses it for draft_model.",
            "Needs a vLLM that knows draft_token_map: check `vllm serve --help=speculative-config` first.",
            "vLLM adds the target's EOS ids by itself.",
        ),
        checked=f"{len(ids):,} ascending target ids as a JSON list",
    )


FORMAT = Format("vllm", {"full": _full, "padded": _padded, "map": _map}, {})
