"""prune: cut the drafter's head to the tokens that the target's text really uses; the embedding stays whole.

Reads the counts of `count`. Writes ``model/`` (`drafters.prune.load_pruned` opens it), ``vocab.safetensors`` (``kept``
ascending drafter ids, ``to_target``, ``to_drafter``) and ``report.json`` with the coverage at this and other sizes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from drafters.heads import PrunedHead
from drafters.package.hub import Source, resolve
from drafters.package.model_folder import PATTERNS, check_model_folder, open_config, open_model, open_tokenizer
from drafters.package.safe_load import read_json
from drafters.pair import vocabulary_size
from drafters.prune import VOCAB_FILE, save_pruned
from drafters.vocab.alignment import VocabMap, align, restrict, same_vocabulary
from drafters.vocab.bytes import spelling
from drafters.vocab.keep import CountMismatch, KeepError, Selection, coverage_curve, rank, select, share
from drafters.vocab.protected import protected_tokens
from pipeline.stage import Context, Stage, write_atomic


@dataclass
class PruneConfig:
    """How much of the drafter's vocabulary to keep: ``size`` or ``coverage``, ``fraction`` where neither is given."""

    size: int | None = None  # tokens
    coverage: float | None = None  # share of the counted text, in (0, 1]
    fraction: float = 0.25  # of the drafter's tokens that have a target image, in (0, 1]
    min_domain_coverage: float = 0.0
    protect: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Side:
    """Everything of the target or the drafter but its weights."""

    source: Source
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase

    @property
    def rows(self) -> int:
        return vocabulary_size(self.config)


@dataclass(frozen=True)
class _Counts:
    """Counted text over the drafter's rows; ``target`` is the same text over the target's ids."""

    drafter: Tensor  # int64 (rows,)
    domains: dict[str, Tensor]  # name -> int64 (rows,)
    heldout: Tensor | None  # int64 (rows,)
    target: Tensor  # int64 (V,)


def run(context: Context) -> None:
    """Choose the kept tokens, cut the head, write the files, say what is covered."""
    settings, pair = context.cfg.prune, context.cfg.pair
    target, drafter = _open("target", pair), _open("drafter", pair)
    vocab = align(target.tokenizer, drafter.tokenizer, target.rows, drafter.rows)
    counts = _read_counts(context.inputs["count"], target, drafter, vocab)
    wanted = protected_tokens(target.tokenizer, _eos(target), settings.protect)
    protected = vocab.to_drafter[wanted]
    protected, lost = protected[protected >= 0], wanted[protected < 0]
    eligible = vocab.to_target >= 0
    selection = select(
        counts.drafter,
        protected,
        size=_size(settings, int(eligible.sum())),
        coverage=settings.coverage,
        eligible=eligible,
        domains=counts.domains,
        min_domain_coverage=settings.min_domain_coverage,
    )
    head = _write(context.out, drafter, selection.kept, restrict(vocab, selection.kept))
    order = rank(counts.drafter, protected, eligible)
    report = _report(counts, selection, target.rows, restrict(vocab, selection.kept)) | {
        "without_drafter_token": target.tokenizer.convert_ids_to_tokens(lost.tolist()),
        "curve": coverage_curve(counts.drafter, order, _sizes(order, selection)),
        "head_bytes_full": head.vocabulary * _row_bytes(head),
        "head_bytes_kept": len(head.kept) * _row_bytes(head),
    }
    write_atomic(context.out / "report.json", (json.dumps(report, indent=2, allow_nan=False) + "\n").encode())
    _say(context, report)


def _open(role: str, pair: DictConfig) -> _Side:
    fix = f"Give a local model folder with pair.{role}=DIR."
    source = resolve(pair[role], pair.get(f"{role}_revision"), PATTERNS, fix)
    check_model_folder(source)
    return _Side(source, open_config(source, fix), open_tokenizer(source, fix))


def _eos(side: _Side) -> list[int | list[int] | None]:
    """Every place of a model folder that names ends of sequence."""
    entries = [getattr(side.config.get_text_config(), "eos_token_id", None)]
    if (side.source.folder / "generation_config.json").is_file():
        generation = read_json(side.source.folder, "generation_config.json", root=side.source.root)
        entries.append(generation.get("eos_token_id"))
    return entries


def _size(settings: DictConfig, eligible: int) -> int | None:
    """The number of tokens asked for, None where a coverage is."""
    if settings.size is not None or settings.coverage is not None:
        return settings.size
    if not 0 < settings.fraction <= 1:
        raise KeepError(f"expected a fraction in (0, 1], got {settings.fraction}: set prune.fraction")
    return round(settings.fraction * eligible)


def _read_counts(folder: Path, target: _Side, drafter: _Side, vocab: VocabMap) -> _Counts:
    """The count stage's tensors over the drafter's rows. Raises CountMismatch where they are of other vocabularies."""
    tables = load_file(folder / "counts.safetensors")
    names = json.loads((folder / "report.json").read_text())["domains"]
    _check(tables, "counts", target.rows, "target")
    same = same_vocabulary(spelling(target.tokenizer, target.rows), spelling(drafter.tokenizer, drafter.rows))
    if same:  # one tokenizer: the target's counts, on the drafter's rows (the two may be padded to different sizes)
        rows = (vocab.to_target >= 0).nonzero().flatten()

        def over_rows(counts: Tensor) -> Tensor:
            moved = counts.new_zeros(*counts.shape[:-1], drafter.rows)
            moved[..., rows] = counts[..., vocab.to_target[rows]]
            return moved

        found = {name: over_rows(tables[name]) for name in tables.keys() & {"counts", "domains", "heldout_counts"}}
    else:
        found = {name.removeprefix("drafter_"): table for name, table in tables.items() if name.startswith("drafter_")}
        if "counts" not in found:
            raise CountMismatch(
                "the two tokenizers differ and the counts hold no drafter_counts, expected the same text counted with "
                "the drafter's tokenizer: set pair.foreign=true and run stage=count again"
            )
        _check(tables, "drafter_counts", drafter.rows, "drafter")
    domains = found.get("domains", torch.zeros(0, drafter.rows, dtype=torch.int64))
    named = dict(zip(names, domains, strict=True)) if len(domains) else {}
    return _Counts(found["counts"], named, found.get("heldout_counts"), tables["counts"])


def _check(tables: dict[str, Tensor], name: str, rows: int, role: str) -> None:
    shape = tuple(tables[name].shape) if name in tables else None
    if shape != (rows,):
        raise CountMismatch(
            f"{name} must have shape ({rows},), the {role}'s vocabulary, got {shape}: they belong to another model; "
            "run stage=count for this pair"
        )


def _write(out: Path, drafter: _Side, kept: Tensor, vocab: VocabMap) -> PrunedHead:
    """Write ``model/`` in the dtype the drafter is stored in, and ``vocab.safetensors``; returns the head."""
    dtype = getattr(drafter.config, "dtype", None)
    dtype = dtype if isinstance(dtype, torch.dtype) else torch.float32
    model = open_model(drafter.source, drafter.config, dtype, torch.device("cpu"))
    save_pruned(model, kept, out / "model")
    tensors = {"kept": kept, "to_target": vocab.to_target, "to_drafter": vocab.to_drafter}
    write_atomic(out / VOCAB_FILE, save({name: ids.contiguous() for name, ids in tensors.items()}))
    return model.get_output_embeddings()


def _row_bytes(head: nn.Module) -> int:
    """Bytes that one token costs in the head: its weights and its bias."""
    return sum(tensor[0].numel() * tensor.element_size() for tensor in head.parameters())


def _sizes(order: Tensor, selection: Selection) -> list[int]:
    """Sizes of the report's curve: halvings of everything that can be kept, down to the protected set, and this one."""
    halvings = [len(order) >> power for power in range(12)]
    return sorted({size for size in (*halvings, len(selection.kept)) if size >= max(1, selection.protected)})


def _report(counts: _Counts, selection: Selection, vocabulary: int, vocab: VocabMap) -> dict[str, Any]:
    """Coverages are shares of tokens: of the drafter's tokens of the text, ``target_coverage`` of the target's."""
    return {
        "vocabulary": vocabulary,
        "drafter_vocabulary": len(counts.drafter),
        "kept": len(selection.kept),
        "protected": selection.protected,
        "uncounted": selection.uncounted,
        "coverage": selection.coverage,
        "heldout_coverage": None if counts.heldout is None else share(counts.heldout, selection.kept),
        "target_coverage": share(counts.target, (vocab.to_drafter >= 0).nonzero().flatten()),
        "domains": selection.domain_coverage,
    }


def _say(context: Context, report: dict[str, Any]) -> None:
    kept, rows = report["kept"], report["drafter_vocabulary"]
    context.console.print(
        f"{kept:,} of {rows:,} tokens kept, {100 * report['coverage']:.1f} % of target text covered", highlight=False
    )
    if report["heldout_coverage"] is not None:
        context.console.print(f"held-out text: {100 * report['heldout_coverage']:.1f} % covered", highlight=False)
    if len(report["domains"]) > 1:
        name, worst = min(report["domains"].items(), key=lambda item: item[1])
        context.console.print(f"least covered domain: {name}, {100 * worst:.1f} %", highlight=False, markup=False)
    if report["uncounted"]:
        context.console.print(
            f"the text uses fewer tokens than asked for: {report['uncounted']:,} of the kept never occur in it, "
            "filled in order of id; count more text or lower prune.size"
        )
    if lost := report["without_drafter_token"]:
        context.console.print(f"protected, but unknown to the drafter: {', '.join(lost)}", markup=False)


def inputs(cfg: DictConfig) -> dict[str, str]:
    """The stage reads counts."""
    return {"count": "count"}


def external(cfg: DictConfig) -> dict[str, str]:
    """Both models: the drafter's weights, and the target's tokenizer, template and ends of sequence."""
    pair, found = cfg.pair, {}
    for role in ("target", "drafter"):
        revision = pair.get(f"{role}_revision")
        found[role] = f"{pair[role]}@{revision}" if revision else str(pair[role])
    return found


STAGE = Stage(name="prune", run=run, inputs=inputs, external=external)
