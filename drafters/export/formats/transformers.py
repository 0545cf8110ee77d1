"""transformers: a plain checkpoint for ``generate(assistant_model=...)`` in programs that do not have Drafters.

Programs that do have it should pass ``drafters.load(...).model`` instead: same tokenizer path, sampling allowed.
"""

from drafters.export.checkpoint import write_full, write_padded
from drafters.export.common import Exported, ExportRequest, Format


def _full(request: ExportRequest) -> Exported:
    return Exported(
        serve=(
            "target.generate(**inputs, do_sample=False, assistant_model=AutoModelForCausalLM.from_pretrained('DIR'), "
            "tokenizer=AutoTokenizer.from_pretrained('TARGET'), assistant_tokenizer=AutoTokenizer.from_pretrained('DIR'))"
        ),
        limits=(
            "Greedy only: sampling with a smaller drafter vocabulary fails in transformers 5.23 "
            "(AttributeError: assistant_overlap_token_ids), and where it does not fail it is not lossless.",
            "One request at a time.",
            "No affinity prior, no trained stop policy: those run in drafters.generate.",
        ),
        checked=write_full(request),
    )


def _padded(request: ExportRequest) -> Exported:
    return Exported(
        serve="target.generate(**inputs, assistant_model=AutoModelForCausalLM.from_pretrained('DIR'))",
        limits=(
            "The head is unpruned: the whole vocabulary's cost per drafted token.",
            "One request at a time.",
        ),
        checked=write_padded(request),
    )


FORMAT = Format("transformers", {"full": _full, "padded": _padded}, {})
