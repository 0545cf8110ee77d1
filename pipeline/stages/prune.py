"""prune: cut the drafter's head to the tokens that the target's text really uses; the embedding stays whole.

Reads the counts of `count`. Writes ``model/`` (`drafters.models.prune.load_pruned` opens it), ``vocab.safetensors`` (``kept``
ascending drafter ids, ``to_target``, ``to_drafter``) and ``report.json`` with the coverage at this and other sizes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save
from torch import Tensor, nn

from drafters.io.atomic import write_atomic, write_json
from drafters.io.safe_load import read_json
from drafters.models.heads import PrunedHead
from drafters.models.model_folder import open_model, quiet
from drafters.models.pair import Checkpoint, match_vocabularies, open_checkpoint
from drafters.models.prune import VOCAB_FILE, save_pruned
from drafters.package.writer import plain_domain
from drafters.vocab.alignment import VocabMap, restrict
from drafters.vocab.keep import BelowProtected, Selection, TooManyTokens, rank, select, share
from drafters.vocab.protected import protected_tokens
from pipeline.config.settings import pair_of, read
from pipeline.count import documents
from pipeline.errors import ConfigError
from pipeline.prune.known import known_vocabulary
from pipeline.prune.sentences import say_report
from pipeline.prune.tables import Counts, read_counts
from pipeline.prune.unseen import judge
from pipeline.runner.stage import Context, Stage, pair_external

LEAST_SHARE = 0.01  # of the counted tokens: a domain of fewer is not warned of


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
    # From this share of unseen text on that a choice by endless text would cover besides, prune asks for more text
    warn_unseen: float = 0.02
    # Further token strings of the target that are always kept
    protect: list[str] = field(default_factory=list)


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
    selection = _select(counts, protected, eligible, settings, _size(settings, int(eligible.sum())))
    kept = restrict(vocab, selection.kept)
    head = _write(context.out, drafter, selection.kept, kept)
    order = rank(counts.drafter, protected, eligible, counts.prior)
    sizes = _sizes(order, selection)

    again = replace(settings, size=len(selection.kept), coverage=None)

    def choose(other: Counts) -> Tensor:
        try:
            return _select(other, protected, eligible, again, again.size).kept
        except (
            BelowProtected,
            TooManyTokens,
        ):  # some of the text may ask for more tokens than all of it, domain by domain
            return _select(other, protected, eligible, replace(again, min_domain_coverage=0.0), again.size).kept

    unseen = judge(counts, documents.read(context.inputs["count"]), vocab, choose, match.foreign)
    report = _report(counts, selection, kept, settings) | {
        "without_drafter_token": [str(token) for token in target.tokenizer.convert_ids_to_tokens(lost.tolist())],
        "curve": [(size, _covered(counts.target, restrict(vocab, order[:size].sort().values))) for size in sizes],
        "differences": match.differences,
        "head_bytes_full": head.vocabulary * _row_bytes(head),
        "head_bytes_kept": len(head.kept) * _row_bytes(head),
        "unseen": None if unseen is None else asdict(unseen),
    }
    write_json(context.out / "report.json", report)
    say_report(context.console, report, unseen, _more_text(context.cfg))


def _select(counts: Counts, protected: Tensor, eligible: Tensor, settings: PruneConfig, size: int | None) -> Selection:
    return select(
        counts.drafter,
        protected,
        size=size,
        coverage=settings.coverage,
        eligible=eligible,
        domains=counts.drafter_domains,
        min_domain_coverage=settings.min_domain_coverage,
        prior=counts.prior,
    )


def _more_text(cfg: DictConfig) -> str:
    """The setting that gives more of the text that is counted."""
    count = cfg.get("count") or {}
    if count.get("source") == "generations":
        return f"raise generate.requests={cfg.generate.requests}"
    most = count.get("max_bytes")
    return "give corpus.path more text" if most is None else f"raise count.max_bytes={most}"


def _size(settings: PruneConfig, eligible: int) -> int | None:
    """The number of tokens asked for, None where a coverage is."""
    if settings.size is not None or settings.coverage is not None:
        return settings.size
    return round(settings.fraction * eligible)


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


def _report(counts: Counts, selection: Selection, vocab: VocabMap, settings: PruneConfig) -> dict[str, object]:
    """Coverages are shares of the target's tokens of the text; ``drafter_coverage`` is of the drafter's, if they are others."""
    domains = {name: _covered(row, vocab) for name, row in counts.domains.items()}
    tokens = {name: int(row.sum()) for name, row in counts.domains.items()}
    worth = [name for name in domains if tokens[name] >= LEAST_SHARE * sum(tokens.values())]
    worst = min(worth, key=domains.__getitem__, default="")
    low = len(worth) > 1 and domains[worst] < settings.warn_coverage
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
        "domain_tokens": tokens,
        "law_positions": counts.positions,
        "warn_coverage": settings.warn_coverage,
        "warn_unseen": settings.warn_unseen,
        "least_covered": {"domain": plain_domain(worst), "coverage": domains[worst]} if low else None,
    }


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
    known = known_vocabulary(OmegaConf.select(cfg, "pair.drafter", throw_on_missing=False))
    if settings.size is not None and known is not None and settings.size > known:
        raise ConfigError(f"prune.size={settings.size}: the drafter has {known:,} tokens; set it to at most {known}")
    for name in ("coverage", "fraction"):
        if settings[name] is not None and not 0 < settings[name] <= 1:
            raise ConfigError(f"prune.{name}={settings[name]}: expected a share above 0 and up to 1, such as 0.25")
    for name in ("min_domain_coverage", "warn_coverage", "warn_unseen"):
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
