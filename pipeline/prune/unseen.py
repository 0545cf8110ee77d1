"""How much of unseen text a choice of tokens covers, how sure that is, and what more text would bring.

Documents that were held out are unseen as they are; of the others each is judged by the choice made without its twentieth of the text.
The unseen mass is Good and Turing's, by document: of a document's tokens, those that the rest of the text does not hold. Tokens of one
document are alike, so that the classic N1 / N (Good 1953; its interval: McAllester and Schapire 2000), which takes every token for a
draw of its own, is too low; where each document is one token, both are the same. Intervals are over documents (`eval.stats.clustered`).

What more text would bring is read off its quarters and halves: the unseen mass falls as a power of the number of documents, U(n) ~ n^-a,
and so does the coverage that is lacking for want of text (Zipf's and Heaps' laws), G(n). With 2^a = U(n/4) / U(n/2) and the gain g from
a quarter to a half, G(n/2) = g / (2^a - 1) and G(n) = 2^-a G(n/2), of which m times as much text brings the share 1 - m^-a.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from drafters.vocab.alignment import VocabMap, restrict
from eval.stats.clustered import Share, clustered_share
from pipeline.count.documents import Documents, Sampled
from pipeline.prune.tables import Counts

FOLDS = 20  # as one document of twenty is held out
LEAST = 4  # documents whose halves say something of what more text brings
TIMES = 4  # as much text: what is said to be gained by it
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
    gain: (
        float | None
    )  # of coverage, at this size, by `TIMES` as much text; None: not all of the text could be looked at


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
    whole = documents.complete and not foreign and len(fresh) >= LEAST
    gain = _gain(counts, train, vocab, choose) if whole else None
    tokens = sum(len(item.document.content) for item in judged)
    return Unseen(len(judged), tokens, coverage, _domains(judged), mass, gain)


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


def _gain(counts: Counts, train: Sequence[Sampled[Tensor]], vocab: VocabMap, choose: Choose) -> float:
    """Coverage that `TIMES` as much text would add: see the module."""
    quarter, half = (_by_parts(counts, train, vocab, choose, parts) for parts in (4, 2))
    if quarter is None or half is None:
        return 0.0
    doubled = max(half[0] - quarter[0], 0.0)
    ratio = quarter[1] / half[1] if half[1] else 2.0
    slope = min(max(math.log2(max(ratio, 1e-9)), SLOPES[0]), SLOPES[1])
    lacking = doubled * 2**-slope / (2**slope - 1)
    return float(lacking * (1 - TIMES**-slope))


def _by_parts(
    counts: Counts, train: Sequence[Sampled[Tensor]], vocab: VocabMap, choose: Choose, parts: int
) -> tuple[float, float] | None:
    """(coverage, unseen mass) of documents by a choice made by one part of the others: each part in its turn judges the next."""
    pieces = [train[start::parts] for start in range(parts)]
    judged: list[_Judged] = []
    for piece, other in zip(pieces, pieces[1:] + pieces[:1], strict=True):
        known = counts.only(piece, vocab)
        if int(known.target.sum()):
            judged += _judged([item for item in other if not item.read], known, vocab, choose)
    tokens = sum(len(item.document.content) for item in judged)
    if not tokens:
        return None
    return sum(item.covered for item in judged) / tokens, sum(item.alone for item in judged) / tokens


def times_for_width(share: Share, width: float) -> float:
    """How many times as many documents bring the half of an interval down to `width`: as the square root of their number."""
    return max(1.0, (share.half / width) ** 2)
