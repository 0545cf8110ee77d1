"""Stock checkpoints: the fully pruned drafter with a tokenizer of its own, and the unpruned one padded to the target."""

import shutil

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from drafters.export.common import ExportError, ExportRequest
from drafters.export.shrink_model import padded_model, small_model
from drafters.export.shrink_tokenizer import SmallTokenizer, shrink
from drafters.models.model_folder import quiet
from drafters.rounding import excess, logits_bound

PROBE = 8  # tokens of the load check


def write_full(request: ExportRequest) -> str:
    """Write the drafter with head, embedding and tokenizer reduced to what it keeps; returns what the load check saw.

    Raises:
        SurgeryError: its tokenizer cannot be reduced. PackageError: ``request.full`` is another model.
    """
    package = request.package
    small = shrink(package.tokenizer, package.kept.tolist())
    full = request.full() if small.placeholder or len(small.ids) > len(package.kept) else None
    _save(request, small_model(package.model, full, small.ids, small.placeholder), small.tokenizer)
    model, tokenizer = _reopen(request)
    _same_logits(request, model, small)
    added = len(small.ids) - len(package.kept)
    rows = f"{len(tokenizer):,} of {package.description['drafter']['vocabulary']:,} rows"
    return f"{rows}: {len(package.kept):,} kept, {added:,} that those are spelled with; logits equal to the package's within rounding"


def write_padded(request: ExportRequest) -> str:
    """Write the unpruned drafter with as many rows as the target has; returns what the load check saw.

    Raises:
        ExportError: the drafter's tokenizer is not the target's.
    """
    package = request.package
    if package.foreign:
        raise ExportError(
            "form=padded needs the target's own tokenizer, this drafter has another one: use form=full with a reader "
            "that takes two tokenizers (to=transformers, to=vllm)"
        )
    full = request.full()
    before, target = full.config.get_text_config().vocab_size, package.description["target"]["vocabulary"]
    model = padded_model(full, target, max(package.tokenizer.get_vocab().values()) + 1)
    _save(request, model, package.tokenizer)
    opened, _ = _reopen(request)
    if opened.config.get_text_config().vocab_size != target:
        raise RuntimeError(f"expected {target} rows, got {opened.config.get_text_config().vocab_size}")
    return f"{target:,} rows as the target ({before:,} before), head and tokenizer unpruned"


def _save(request: ExportRequest, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    with quiet():
        model.save_pretrained(request.out)
    tokenizer.save_pretrained(request.out)
    shutil.copyfile(request.folder / "LICENSE", request.out / "LICENSE")


def _reopen(request: ExportRequest) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The load check: the stock classes open the folder without code of ours or theirs, and generate."""
    with quiet(always=True):
        model = AutoModelForCausalLM.from_pretrained(request.out, local_files_only=True, trust_remote_code=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(request.out, local_files_only=True, trust_remote_code=False)
    size = model.config.get_text_config().vocab_size
    if len(tokenizer) > size:
        raise RuntimeError(f"expected at most {size} tokens, the written tokenizer has {len(tokenizer)}")
    start = torch.arange(min(4, size)).unsqueeze(0)
    with torch.inference_mode():
        model.generate(start, attention_mask=torch.ones_like(start), max_new_tokens=PROBE, do_sample=False)
    return model, tokenizer


def _same_logits(request: ExportRequest, model: PreTrainedModel, small: SmallTokenizer) -> None:
    """The kept columns of the small model are the package's but for rounding, on the first kept tokens. Raises RuntimeError."""
    package = request.package
    rows = torch.searchsorted(small.ids, package.kept)
    probe = slice(None, PROBE)
    ids = package.kept[probe].unsqueeze(0).to(package.drafter.device)
    with torch.inference_mode():
        expected = package.drafter(ids).logits
        got = model(rows[probe].unsqueeze(0)).logits[..., rows]
    off = excess(got, expected, logits_bound(package.drafter, ids).cpu())
    if off > 1:
        raise RuntimeError(
            f"the exported model's logits are off by {off:.3g} times what rounding explains, expected those of "
            f"{request.folder.name}; run stage=export again, and stage=package if that does not help"
        )
