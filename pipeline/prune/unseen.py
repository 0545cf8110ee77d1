"""How much of unseen text a choice of tokens covers, how sure that is, and what more text would bring.

Documents that were held out are unseen as they are; of the others each is judged by the choice made without its twentieth of the text.
The unseen mass is Good and Turing's, by document: of a document's tokens, those that the rest of the text does not hold. Tokens of one
document are alike, so that the classic N1 / N (Good 1953; its interval: McAllester and Schapire 2000), which takes every token for a
draw of its own, is too low; where each document is one token, both are the same. Intervals are over documents (`eval.stats.clustered`).

What more text could bring: a choice covers more of the text that it was made by than the best choice of its size covers of all text, and
less of other text. Both differences come from the same noise, so that what is lacking for want of text is about half of the two together.
It falls as the unseen mass does, as a power of the number of documents, U(n) ~ n^-a (Heaps' law) with 2^a = U(n/2) / U(n).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drafters.vocab.alignment import VocabMap, restrict
from eval.stats.clustered import Share, clustered_share
from pipeline.count.documents import Documents, Sampled
from pipeline.prune.tables import Counts

FOLDS = 20  # as one document of twenty is held out
SLOPES = (0.05, 1.0)  # of the unseen mass, on doubly logarithmic scales; from noise alone it may come out anywhere
Choose = Callable[[Counts], Tensor]  # counts -> kept rows, ascending, as many as were really kept


@dataclass(frozen=True)
class Unseen:
    """What is known of text that was not counted. Shares are of its tokens."""

    documents: int  # that were judged
    tokens: int  # of them
    coverage: Share  # by a choice as this one
    domains: dict[str, Share]  # of them, where several documents are of a domain
    mass: Share  # that the counted text does not hold, whatever is kept
    lacking: float  # coverage that the best choice of this size has besides, about
    slope: float | None  # a of `lacking` ~ n^-a; None: not all of the text could be looked at, or nothing is new

    def times(self, enough: float) -> float | None:
        """How many times as much text leaves `enough` lacking, 1 at least; None where the slope is not known."""
        if self.slope is None:
            return None
        return float(max(1.0, (self.lacking / enough) ** (1 / self.slope)))


@dataclass(frozen=True)
class _Judged:
    document: Sampled[Tensor]
    covered: int  # tokens
    alone: int  # tokens that the counts do not hold


def judge(counts: Counts, documents: Documents, vocab: VocabMap, choose: Choose, foreign: bool) -> Unseen | None:
    """Judge a choice by the sampled documents; None for fewer than two. `foreign`: held-out documents are all that can be judged."""
    held = [item for item in documents.documents if item.split == "heldout" and len(item.content)]
    train = [item for item in documents.documents if item.split == "train" and len(item.content)]
    judged = _judged(held, counts, vocab, choose)
    fresh = [] if foreign else [item for item in train if not item.read]
    for fold in range(FOLDS):
        part = fresh[fold::FOLDS]
        if part and len(train) > len(part):
            judged += _judged(part, counts.without(part, vocab), vocab, choose)
    coverage, mass = _share(judged, "covered"), _share(judged, "alone")
    if coverage is None or mass is None:
        return None
    own = restrict(vocab, choose(counts)).to_drafter >= 0
    inside = int(counts.target[own].sum()) / max(int(counts.target.sum()), 1)
    tokens = sum(len(item.document.content) for item in judged)
    slope = _slope(train, mass.value, len(counts.target)) if documents.complete else None
    lacking = max(inside - coverage.value, 0.0) / 2
    return Unseen(len(judged), tokens, coverage, _domains(judged), mass, lacking, slope)


def _judged(documents: Sequence[Sampled[Tensor]], counts: Counts, vocab: VocabMap, choose: Choose) -> list[_Judged]:
    """Documents that are not in `counts`; those of one fold are left out together, which is as good as each alone."""
    if not documents:
        return []
    covered = restrict(vocab, choose(counts)).to_drafter >= 0  # bool (V,)
    return [
        _Judged(item, int(covered[item.content].sum()), int((counts.target[item.content] == 0).sum()))
        for item in documents
    ]


def _share(judged: Sequence[_Judged], name: str) -> Share | None:
    return clustered_share([getattr(item, name) for item in judged], [len(item.document.content) for item in judged])


def _domains(judged: Sequence[_Judged]) -> dict[str, Share]:
    names = sorted({item.document.domain for item in judged})
    found = {name: _share([item for item in judged if item.document.domain == name], "covered") for name in names}
    return {name: share for name, share in found.items() if share is not None}


def _slope(train: Sequence[Sampled[Tensor]], mass: float, vocabulary: int) -> float | None:
    """How the unseen mass falls from half of the documents to all of them; each half judges the other."""
    halves = [torch.cat([item.content for item in train[start::2]]) for start in range(2) if train[start::2]]
    if len(halves) < 2 or not mass:
        return None
    alone = sum(
        int((torch.bincount(one, minlength=vocabulary)[other] == 0).sum()) for one, other in (halves, halves[::-1])
    )
    half = alone / sum(map(len, halves))
    return min(max(math.log2(max(half / mass, 1.0)), SLOPES[0]), SLOPES[1])


def times_for_width(share: Share, width: float) -> float:
    """How many times as many documents bring the half of an interval down to `width`: as the square root of their number."""
    return max(1.0, (share.half / width) ** 2)
