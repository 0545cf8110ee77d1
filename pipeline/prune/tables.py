"""What a count stage knows, over the drafter's rows and the target's ids, and what it would know without some documents."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from drafters.vocab.alignment import VocabMap
from drafters.vocab.keep import CountMismatch
from pipeline.count.documents import Sampled
from pipeline.count.law import LAW, prior_of


@dataclass(frozen=True)
class Counts:
    """Counted text over the drafter's rows, by which it is pruned, and over the target's ids, of which shares are."""

    drafter: Tensor  # int64 (rows,)
    drafter_domains: dict[str, Tensor]  # name -> int64 (rows,)
    target: Tensor  # int64 (V,)
    domains: dict[str, Tensor]  # name -> int64 (V,)
    heldout: Tensor | None  # int64 (V,)
    prior: Tensor | None = None  # float64 (rows,) of `pipeline.count.law.prior_of`
    positions: int = 0  # at which the target's law was read for it

    def without(self, documents: Iterable[Sampled[Tensor]], vocab: VocabMap) -> Counts:
        """The counts as they were without some documents, of a pair that shares a vocabulary."""
        total, own = self.target.clone(), {name: row.clone() for name, row in self.domains.items()}
        for document in documents:
            seen = torch.bincount(document.content, minlength=len(total))
            total -= seen
            if document.domain in own:
                own[document.domain] -= seen
        rows = {name: to_rows(row, vocab) for name, row in own.items()} if self.drafter_domains else {}
        return replace(self, drafter=to_rows(total, vocab), drafter_domains=rows, target=total, domains=own)


def to_rows(counts: Tensor, vocab: VocabMap) -> Tensor:
    """Counts of the target's ids (..., V) at the drafter's rows (..., rows): its head may be padded to another size."""
    known = (vocab.to_target >= 0).nonzero().flatten()
    found = counts.new_zeros(*counts.shape[:-1], len(vocab.to_target))
    found[..., known] = counts[..., vocab.to_target[known]]
    return found


def read_counts(folder: Path, vocab: VocabMap, foreign: bool) -> Counts:
    """The tensors of a count stage, moved to the drafter's rows where both models share a tokenizer.

    Raises CountMismatch where they are of other vocabularies, or lack the drafter's own where the tokenizers differ.
    """
    tables = load_file(folder / "counts.safetensors")
    report = json.loads((folder / "report.json").read_text())
    names = report["domains"]
    rows, vocabulary = len(vocab.to_target), len(vocab.to_drafter)
    _check(tables, "counts", vocabulary, "target")
    if foreign:
        _check(tables, "drafter_counts", rows, "drafter")
        found = {name.removeprefix("drafter_"): table for name, table in tables.items() if name.startswith("drafter_")}
    else:
        found = {name: to_rows(tables[name], vocab) for name in tables.keys() & {"counts", "domains"}}
    if LAW in tables:
        _check(tables, LAW, vocabulary, "target")
    held, prior = tables.get("heldout_counts"), prior_of(tables)
    return Counts(
        found["counts"],
        dict(zip(names, found["domains"], strict=True)) if "domains" in found else {},
        tables["counts"],
        dict(zip(names, tables["domains"], strict=True)) if "domains" in tables else {},
        held if held is not None and held.any() else None,
        None if prior is None else to_rows(prior, vocab),
        report.get("law_positions", 0),
    )


def _check(tables: dict[str, Tensor], name: str, rows: int, role: str) -> None:
    shape = tuple(tables[name].shape) if name in tables else None
    if shape != (rows,):
        raise CountMismatch(
            f"{name} must have shape ({rows},), the {role}'s vocabulary, got {shape or 'none'}: the counts are another "
            "pair's; run stage=count for this one (pair.foreign=true where the tokenizers differ)"
        )
