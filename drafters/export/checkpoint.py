"""Stock checkpoints: the fully pruned drafter with a tokenizer of its own, and the unpruned one padded to the target."""

import shutil
from collections import Counter
from collections.abc import Mapping

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from drafters.export.common import ExportError, ExportRequest
from drafters.export.older_readers import for_older_readers
from drafters.export.shrink_model import ROLES, padded_model, small_model
from drafters.export.shrink_tokenizer import SmallTokenizer, shrink
from drafters.io.hub import Source, local_source
from drafters.io.safe_load import TensorInfo, locate
from drafters.models.architecture import open_config
from drafters.models.model_folder import check_model_folder, open_model, quiet
from drafters.models.tying import write_tied_flag
from drafters.rounding import excess, logits_bound
from drafters.vocab.spelling import check_rows, without_row

PROBE = 8  # tokens of the load check
DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "chat_template.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt",
)  # fmt: skip
FIX = "Set pair.drafter to the model that the package was made from."


def write_full(request: ExportRequest, placeholder: bool) -> str:
    """Write the drafter with head, embedding and tokenizer reduced to what it keeps; returns what the load check saw.

    Args:
        placeholder: add a row for all tokens that are gone where the tokenizer has no unk, see `shrink`.

    Raises:
        SurgeryError: its tokenizer cannot be reduced. PackageError: ``request.drafter`` is another model.
    """
    package = request.package
    rows = package.description["drafter"]["vocabulary"]
    small = shrink(package.tokenizer, package.kept.tolist(), placeholder, rows)
    full = None
    if small.placeholder or len(small.ids) > len(package.kept):
        full = _open(request.drafter(), torch.float32)
    model = small_model(package.model, full, small.ids, small.placeholder)
    stored = stored_dtype(check_model_folder(local_source(request.folder, request.folder.name), borrowing=True))
    for parameter in model.parameters():  # copies of rows in that dtype, so that nothing but the placeholder is rounded
        parameter.data = parameter.data.to(stored)
    small.tokenizer.save_pretrained(request.out)
    _save(request, model)
    opened, tokenizer = _reopen(request, stored)
    _same_logits(request, opened, small)
    added = len(small.ids) - len(package.kept)
    parts = [f"{len(package.kept):,} kept", f"{added:,} that those are spelled with"]
    parts += ["1 for all others"] * small.placeholder
    return f"{len(tokenizer):,} of {rows:,} rows: {', '.join(parts)}; logits equal to the package's within rounding"


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
    source = request.drafter()
    stored = stored_dtype(check_model_folder(source))
    full = _open(source, stored)
    before, target = full.config.get_text_config().vocab_size, package.description["target"]["vocabulary"]
    out = without_row(package.tokenizer, before)
    used = max(token_id for token_id in package.tokenizer.get_vocab().values() if token_id not in out) + 1
    model = padded_model(full, target, used)
    for name in TOKENIZER_FILES:
        if (source.folder / name).exists():
            shutil.copyfile(locate(source.folder, name, source.root), request.out / name)
    _save(request, model)
    opened, _ = _reopen(request, stored)
    if opened.config.get_text_config().vocab_size != target:
        raise RuntimeError(f"expected {target} rows, got {opened.config.get_text_config().vocab_size}")
    return f"{target:,} rows as the target ({before:,} before), head and tokenizer unpruned"


def stored_dtype(tensors: Mapping[str, TensorInfo]) -> torch.dtype:
    """The dtype that most numbers of a checkpoint are stored in; fp32 where no model of ours computes in that."""
    numbers = Counter[str]()
    for info in tensors.values():
        numbers[info.dtype] += info.numel
    return DTYPES.get(numbers.most_common(1)[0][0], torch.float32) if numbers else torch.float32


def _open(source: Source, dtype: torch.dtype) -> PreTrainedModel:
    return open_model(source, open_config(source, FIX), dtype, torch.device("cpu"))


def _save(request: ExportRequest, model: PreTrainedModel) -> None:
    """Weights, a config that says what they are, a generation config that drafts as the package was prepared to."""
    write_tied_flag(model)
    roles = {role: getattr(model.generation_config, role) for role in ROLES}
    model.generation_config = GenerationConfig(
        **roles,
        num_assistant_tokens=request.lookahead,
        num_assistant_tokens_schedule="constant",
        assistant_confidence_threshold=0.0,  # off: transformers would stop at its own, of 0.4
    )
    with quiet():
        model.save_pretrained(request.out)
    for_older_readers(request.out)
    shutil.copyfile(request.folder / "LICENSE", request.out / "LICENSE")


def _reopen(request: ExportRequest, stored: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The load check: the stock classes open the folder, in fp32, without code of ours or theirs, and generate."""
    options = {"local_files_only": True, "trust_remote_code": False}
    with quiet(always=True):
        model = AutoModelForCausalLM.from_pretrained(request.out, dtype=torch.float32, **options).eval()
    tokenizer = AutoTokenizer.from_pretrained(request.out, **options)
    found = stored_dtype(check_model_folder(Source(request.out, request.out, request.out.name, None)))
    if found != stored:
        raise RuntimeError(f"expected weights in {stored}, got {found}")
    size = model.config.get_text_config().vocab_size
    check_rows(tokenizer, size)
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
