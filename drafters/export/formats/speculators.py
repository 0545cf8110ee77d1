"""speculators (vLLM's trainer of EAGLE-3, DFlash, P-EAGLE heads): the vocabulary maps to train a head with."""

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from drafters.export.common import DIR, Exported, ExportRequest, Format
from drafters.export.kept_ids import from_mask, from_offsets, target_ids, to_mask, to_offsets

# Its trainer finds these two in its data folder by its --draft-vocab-size (train/cli.py `parse_vocab_mappings`, 0.9.0).
D2T, T2D, TENSORS = "d2t-{}.npy", "t2d-{}.npy", "maps.safetensors"


def _map(request: ExportRequest) -> Exported:
    vocabulary = request.package.description["target"]["vocabulary"]
    ids = target_ids(request.package)
    d2t, t2d = to_offsets(ids), to_mask(ids, vocabulary)
    names = D2T.format(len(ids)), T2D.format(len(ids))
    for name, table in zip(names, (d2t, t2d), strict=True):
        np.save(request.out / name, table.numpy())
    # The keys under which a trained checkpoint of this format carries the same two tensors.
    save_file({"d2t": d2t, "t2d": t2d}, request.out / TENSORS, metadata={"format": "pt"})
    _check(request, ids, t2d, names)
    return Exported(
        serve=(
            f"train with --d2t-path {DIR}/{names[0]} --t2d-path {DIR}/{names[1]} (or copy both into --data-path and give "
            f"--draft-vocab-size {len(ids)}), then: vllm serve TRAINED_CHECKPOINT"
        ),
        limits=(
            f"Maps only: d2t int64 ({len(ids)},) in offset form (target id = i + d2t[i]), t2d bool ({vocabulary},).",
            "For EAGLE-3, DFlash and P-EAGLE heads; an MTP head ignores maps (0.9.0).",
            "The head is yours to train; a standalone drafter has no model type in speculators.",
        ),
        checked=f"{len(ids):,} ids, the same from d2t, from t2d and from {TENSORS}",
    )


def _check(request: ExportRequest, ids: Tensor, mask: Tensor, names: tuple[str, str]) -> None:
    d2t, t2d = (torch.from_numpy(np.load(request.out / name, allow_pickle=False)) for name in names)
    both = load_file(request.out / TENSORS)
    same = all(torch.equal(found, ids) for found in (from_offsets(d2t), from_mask(t2d), from_offsets(both["d2t"])))
    if not same or not torch.equal(t2d, mask) or not torch.equal(both["t2d"], mask):
        raise RuntimeError(f"{', '.join(names)} and {TENSORS} do not give back the {len(ids)} ids that were written")


NO_TYPE = (
    "speculators has no model type for a standalone language model, so `vllm serve` cannot open one in this format; "
    "use to=vllm, or form=map to train an EAGLE-3 head with this vocabulary"
)
FORMAT = Format("speculators", {"map": _map}, {"full": NO_TYPE, "padded": NO_TYPE})
