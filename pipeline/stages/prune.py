"""prune: cut the drafter's head to the tokens that the target's text really uses; the embedding stays whole.

Reads the counts of `count`. Writes ``model/`` (`drafters.models.prune.load_pruned` opens it), ``vocab.safetensors`` (``kept``
ascending drafter ids, ``to_target``, ``to_drafter``) and ``report.json`` with the coverage at this and other sizes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from safetensors.torch import load_file, save
from torch import Tensor, nn

from drafters.io.atomic import write_atomic, write_json
from drafters.io.safe_load import read_json
from drafters.models.heads import PrunedHead
from drafters.models.model_folder import open_model, quiet
from drafters.models.pair import Checkpoint, match_vocabularies, open_checkpoint
from drafters.models.prune import VOCAB_FILE, save_pruned
from drafters.package.writer import plain_domain
from drafters.vocab.alignment import VocabMap, restrict
from drafters.vocab.keep import CountMismatch, Selection, rank, select, share
from drafters.vocab.protected import protected_tokens
from pipeline.config.settings import pair_of, read
from pipeline.errors import ConfigError
from pipeline.runner.stage import Context, Stage, pair_external, say


@dataclass
class PruneConfig:
    """How much of the drafter's vocabulary to keep: ``size`` or ``coverage``, ``fraction`` where neither is given.

    What is asked for here is of the drafter's own tokens of the text, what is reported of the target's: the same in one
    vocabulary.
    """

    size: int | None = None  # tokens to keep; takes precedence over fraction
    # Share of the counted text to cover with as few tokens as possible; takes precedence over fraction
    coverage: float | None = None
    fraction: float = 0.25  # of the drafter's tokens that have a target image, in (0, 1]
    min_domain_coverage: float = 0.0  # every domain of the counted text is covered at least so far
    # Below this share of the text, or of one domain, prune, the table of eval and the model card warn
    warn_coverage: float = 0.8
    # Further token strings of the target that are always kept
    protect: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Counts:
    """Counted text over the drafter's rows, by which it is pruned, and over the target's ids, of which shares are."""

    drafter: Tensor  # int64 (rows,)
    drafter_domains: dict[str, Tensor]  # name -> int64 (rows,)
    target: Tensor  # int64 (V,)
    domains: dict[str, Tensor]  # name -> int64 (V,)
    heldout: Tensor | None  # int64 (V,)


def run(context: Context) -> None:
    """Choose the kept tokens, cut the head, write the files, say what is covered."""
    settings, pair = read(context.cfg.prune, PruneConfig), pair_of(context.cfg)
    target, drafter = open_checkpoint("target", pair), open_checkpoint("drafter", pair)
    match = match_vocabularies(target, drafter, pair["foreign"])
    vocab = match.tokens
    counts = read_counts(context.inputs["count"], vocab, match.foreign)
    ends = target.eos if match.foreign else (*target.eos, *drafter.eos)
    wanted = protected_tokens(target.tokenizer, [end for end in ends if end < target.vocabulary], settings.protect)
    protected = vocab.to_drafter[wanted]
    protected, lost = protected[protected >= 0], wanted[protected < 0]
    eligible = vocab.to_target >= 0
    selection = select(
        counts.drafter,
        protected,
        size=_size(settings, int(eligible.sum())),
        coverage=settings.coverage,
        eligible=eligible,
        domains=counts.drafter_domains,
        min_domain_coverage=settings.min_domain_coverage,
    )
    kept = restrict(vocab, selection.kept)
    head = _write(context.out, drafter, selection.kept, kept)
    order = rank(counts.drafter, protected, eligible)
    sizes = _sizes(order, selection)
    report = _report(counts, selection, kept, settings.warn_coverage) | {
        "without_drafter_token": [str(token) for token in target.tokenizer.convert_ids_to_tokens(lost.tolist())],
        "curve": [(size, _covered(counts.target, restrict(vocab, order[:size].sort().values))) for size in sizes],
        "differences": match.differences,
        "head_bytes_full": head.vocabulary * _row_bytes(head),
        "head_bytes_kept": len(head.kept) * _row_bytes(head),
    }
    write_json(context.out / "report.json", report)
    _say(context.console, report)


def _size(settings: PruneConfig, eligible: int) -> int | None:
    """The number of tokens asked for, None where a coverage is."""
    if settings.size is not None or settings.coverage is not None:
        return settings.size
    return round(settings.fraction * eligible)


def read_counts(folder: Path, vocab: VocabMap, foreign: bool) -> _Counts:
    """The tensors of a count stage, moved to the drafter's rows where both models share a tokenizer.

    Raises CountMismatch where they are of other vocabularies, or lack the drafter's own where the tokenizers differ.
    """
    tables = load_file(folder / "counts.safetensors")
    names = json.loads((folder / "report.json").read_text())["domains"]
    rows, vocabulary = len(vocab.to_target), len(vocab.to_drafter)
    _check(tables, "counts", vocabulary, "target")
    if foreign:
        _check(tables, "drafter_counts", rows, "drafter")
        found = {name.removeprefix("drafter_"): table for name, table in tables.items() if name.startswith("drafter_")}
    else:  # the target's counts serve; its head and the drafter's may be padded to different sizes
        known = (vocab.to_target >= 0).nonzero().flatten()
        found = {}
        for name in tables.keys() & {"counts", "domains"}:
            found[name] = tables[name].new_zeros(*tables[name].shape[:-1], rows)
            found[name][..., known] = tables[name][..., vocab.to_target[known]]
    held = tables.get("heldout_counts")
    return _Counts(
        found["counts"],
        dict(zip(names, found["domains"], strict=True)) if "domains" in found else {},
        tables["counts"],
        dict(zip(names, tables["domains"], strict=True)) if "domains" in tables else {},
        held if held is not None and held.any() else None,
    )


def _check(tables: dict[str, Tensor], name: str, rows: int, role: str) -> None:
    shape = tuple(tables[name].shape) if name in tables else None
    if shape != (rows,):
        raise CountMismatch(
            f"{name} must have shape ({rows},), the {role}'s vocabulary, got {shape or 'none'}: the counts are another "
            "pair's; run stage=count for this one (pair.foreign=true where the tokenizers differ)"
        )


def _write(out: Path, drafter: Checkpoint, kept: Tensor, vocab: VocabMap) -> PrunedHead:
    """Write ``model/`` in the dtype the drafter is stored in, and ``vocab.safetensors``; returns the head."""
    dtype = getattr(drafter.config, "dtype", None)
    dtype = dtype if isinstance(dtype, torch.dtype) else torch.float32
    model = open_model(drafter.source, drafter.config, dtype, torch.device("cpu"))
    with quiet():
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


def _covered(counts: Tensor, vocab: VocabMap) -> float:
    """Share of the target's tokens of a text, int64 (V,), that the drafter can propose."""
    return share(counts, (vocab.to_drafter >= 0).nonzero().flatten())


def _report(counts: _Counts, selection: Selection, vocab: VocabMap, warn: float) -> dict[str, object]:
    """Coverages are shares of the target's tokens of the text; ``drafter_coverage`` is of the drafter's, if they are others."""
    domains = {name: _covered(row, vocab) for name, row in counts.domains.items()}
    worst = min(domains, key=domains.__getitem__, default="")
    low = len(domains) > 1 and domains[worst] < warn
    return {
        "vocabulary": len(vocab.to_drafter),
        "drafter_vocabulary": len(counts.drafter),
        "kept": len(selection.kept),
        "protected": selection.protected,
        "uncounted": selection.uncounted,
        "coverage": _covered(counts.target, vocab),
        "heldout_coverage": None if counts.heldout is None else _covered(counts.heldout, vocab),
        "drafter_coverage": selection.coverage,
        "domains": domains,
        "warn_coverage": warn,
        "least_covered": {"domain": plain_domain(worst), "coverage": domains[worst]} if low else None,
    }


def _say(console: Console, report: Mapping[str, Any]) -> None:
    kept, rows, covered = (report[key] for key in ("kept", "drafter_vocabulary", "coverage"))
    say(console, f"{kept:,} of {rows:,} tokens kept, {100 * covered:.1f} % of the counted text covered")
    if report["heldout_coverage"] is not None:
        say(console, f"held-out text: {100 * report['heldout_coverage']:.1f} % covered")
    if report["drafter_coverage"] != covered:  # two tokenizers cut the text into different tokens
        say(console, f"of the drafter's own tokens of that text, {100 * report['drafter_coverage']:.1f} % are kept")
    if report["differences"]:
        say(console, f"one vocabulary, although {report['differences']}")
    if len(report["domains"]) > 1:
        name, worst = min(report["domains"].items(), key=lambda item: item[1])
        say(console, f"least covered domain: {name}, {100 * worst:.1f} %")
    low = {"the counted text": covered} if covered < report["warn_coverage"] else {}
    if (least := report["least_covered"]) is not None:
        low[f"the domain {least['domain']}"] = least["coverage"]
    most, ceiling = report["curve"][-1]  # with everything that can be kept
    fix = (
        "raise prune.size or prune.min_domain_coverage"
        if ceiling >= report["warn_coverage"]
        else f"all {most:,} tokens that can be kept cover {100 * ceiling:.1f} %, a drafter of the target's family more"
    )
    for what, found in low.items():
        say(
            console,
            f"warning: {100 * found:.1f} % of {what} is covered, below prune.warn_coverage={report['warn_coverage']:g}: the rest "
            f"is never drafted; {fix}",
        )
    if report["uncounted"]:
        say(
            console,
            f"the text uses fewer tokens than asked for: {report['uncounted']:,} of the kept never occur in it, "
            "filled in order of id; count more text or lower prune.size",
        )
    if lost := report["without_drafter_token"]:
        say(console, f"protected, but unknown to the drafter: {', '.join(lost)}")


def inputs(cfg: DictConfig) -> dict[str, str]:
    """The directories that the stage reads, by role: the counts."""
    return {"count": "count"}


def external(cfg: DictConfig) -> dict[str, str]:
    """Both models: the drafter's weights, and the target's tokenizer, template and ends of sequence."""
    return pair_external(cfg)


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for settings that cannot work with any counts, before anything is loaded."""
    settings = cfg.prune
    if settings.size is not None and settings.coverage is not None:
        raise ConfigError(
            f"prune.size={settings.size} and prune.coverage={settings.coverage}: give one of them, the other null"
        )
    if settings.size is not None and settings.size < 1:
        raise ConfigError(f"prune.size={settings.size}: expected a number of tokens from 1, or null")
    for name in ("coverage", "fraction"):
        if settings[name] is not None and not 0 < settings[name] <= 1:
            raise ConfigError(f"prune.{name}={settings[name]}: expected a share above 0 and up to 1, such as 0.25")
    for name in ("min_domain_coverage", "warn_coverage"):
        if not 0 <= settings[name] <= 1:
            raise ConfigError(f"prune.{name}={settings[name]}: expected a share from 0 to 1")


def brief(directory: Path) -> str:
    """Summarise the run in one line: what is kept, and what it covers."""
    report = read_json(directory, "report.json")
    covered = report["heldout_coverage"]
    said = "" if covered is None else f", {100 * covered:.1f} % of held-out text"
    return f"{report['kept']:,} of {report['drafter_vocabulary']:,} tokens{said}"


STAGE = Stage(
    name="prune",
    run=run,
    inputs=inputs,
    external=external,
    check=check,
    brief=brief,
)
