"""RDK priors: where the probability mass of kept tokens goes when the drafter's head has been pruned.

A prior is estimated from sums over contexts, never from stored contexts: the target's mean distribution (rank one), and
how much mass the target gave to pruned token j while the drafter gave mass to kept token i (co-occurrence). Its share
e, how much a donor gives away, is chosen by acceptance, which is concave in e, on text that no sum has seen; e = 0 is
allowed and then the prior changes nothing (arXiv 2506.03206 and the mixture form q2 = (1 - e) q' + e A^T q').
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from drafters.vocab.alignment import VocabMap


@dataclass(frozen=True)
class AffinityPrior:
    """Donor row i keeps ``1 - share[i]`` of its mass; ``share[i]`` goes to its neighbours. File keys are the field
    names."""

    index: Tensor  # int32 (D, K) target ids; (1, K): one row shared by all donors
    weight: Tensor  # fp32, as index, rows sum to 1
    share: Tensor  # fp32 (D,) the mixture weight e of each donor


@dataclass
class Statistics:
    """Sums over contexts of what a prior is made of. Pairs are sparse: only the heaviest of each context are counted."""

    vocabulary: int  # V
    donors: int = 8  # heaviest drafter tokens of a context
    receivers: int = 16  # heaviest pruned target tokens of a context
    positions: int = 0
    mean: Tensor = field(default_factory=lambda: torch.zeros(0))  # fp64 (V,) sum of the target's distributions
    documents: Tensor = field(default_factory=lambda: torch.zeros(0))  # int64 (V,) documents that hold the token
    pair: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))  # ascending row * V + target id
    mass: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))  # of each pair: sum of q'_i p_j

    def __post_init__(self) -> None:
        if not self.mean.numel():
            self.mean = torch.zeros(self.vocabulary, dtype=torch.float64)
            self.documents = torch.zeros(self.vocabulary, dtype=torch.int64)

    def add(self, p: Tensor, q: Tensor, vocab: VocabMap) -> None:
        """Contexts of one piece of text: distributions p (n, V) and q (n, D)."""
        self.positions += p.shape[0]
        self.mean += p.sum(0, dtype=torch.float64).cpu()
        pruned = vocab.to_drafter < 0
        outside = torch.where(pruned.to(p.device), p, 0.0)
        giving, row = q.topk(min(self.donors, q.shape[1]), -1)
        getting, token = outside.topk(min(self.receivers, p.shape[1]), -1)
        pair = row.unsqueeze(-1) * self.vocabulary + token.unsqueeze(-2)
        mass = (giving.unsqueeze(-1) * getting.unsqueeze(-2)).double()
        self._merge(pair.flatten().cpu(), mass.flatten().cpu())

    def seen(self, ids: Tensor) -> None:
        """One document's token ids: for the minimum number of documents that a receiver must occur in."""
        self.documents[ids.unique()] += 1

    def _merge(self, pair: Tensor, mass: Tensor) -> None:
        heavy = mass > 1e-9
        keys, where = torch.cat([self.pair, pair[heavy]]).unique(return_inverse=True)
        sums = torch.zeros(len(keys), dtype=torch.float64)
        self.mass = sums.index_add_(0, where, torch.cat([self.mass, mass[heavy]]))
        self.pair = keys

    def receivers_of(self, vocab: VocabMap) -> Tensor:
        """bool (V,): pruned tokens with mass."""
        return (vocab.to_drafter < 0) & (self.mean > 0)


def candidate_priors(
    statistics: Statistics, vocab: VocabMap, min_documents: int, neighbours: int
) -> dict[str, AffinityPrior]:
    """Both priors by name, every donor giving all of its share: shares are chosen afterwards. Empty where nothing can receive."""
    found = {
        "mean": mean_prior(statistics, vocab),
        "cooccurrence": cooccurrence_prior(statistics, vocab, min_documents, neighbours),
    }
    return {
        name: AffinityPrior(prior.index, prior.weight, torch.ones_like(prior.share))
        for name, prior in found.items()
        if prior is not None
    }


def mean_prior(statistics: Statistics, vocab: VocabMap) -> AffinityPrior | None:
    """The rank-one prior: all donors give by the target's mean on pruned tokens. None where nothing can receive."""
    receiver = statistics.receivers_of(vocab).nonzero().flatten()
    if not len(receiver):
        return None
    weight = statistics.mean[receiver]
    rows = vocab.to_target.shape[0]
    return AffinityPrior(receiver.int().unsqueeze(0), (weight / weight.sum()).float().unsqueeze(0), torch.zeros(rows))


def cooccurrence_prior(
    statistics: Statistics, vocab: VocabMap, min_documents: int, neighbours: int, smoothing: float = 0.1
) -> AffinityPrior | None:
    """Each donor gives to the K pruned tokens that the target favoured where the drafter favoured the donor.

    A donor's counts are smoothed by `smoothing` of its mass spread by the mean distribution; one without counts gives
    by the mean distribution alone. A pair counts if its receiver occurs in `min_documents` documents: a rarer one could
    give a secret away, while frequencies of single tokens say no more than the list of kept ones. None where nothing
    can receive.
    """
    allowed = statistics.receivers_of(vocab)
    if not bool(allowed.any()):
        return None
    rows, size = vocab.to_target.shape[0], statistics.vocabulary
    count = min(neighbours, int(allowed.sum()))
    mean = torch.where(allowed, statistics.mean, 0.0)
    mean = mean / mean.sum()
    common = mean.topk(count)
    index = common.indices.repeat(rows, 1)
    weight = (common.values / common.values.sum()).repeat(rows, 1)
    donor, token = statistics.pair // size, statistics.pair % size
    known = allowed[token] & (statistics.documents[token] >= min_documents)
    donor, token, mass = donor[known], token[known], statistics.mass[known]
    begins = torch.searchsorted(donor, torch.arange(rows + 1))  # pairs are ascending, so a donor's stand together
    for row in range(rows):
        begin, end = int(begins[row]), int(begins[row + 1])
        if begin == end:
            continue
        law = mean * smoothing
        law[token[begin:end]] += (1 - smoothing) * mass[begin:end] / mass[begin:end].sum()
        best = law.topk(count)
        index[row], weight[row] = best.indices, best.values / best.values.sum()
    return AffinityPrior(index.int(), weight.float(), torch.zeros(rows))


def acceptance_by_share(p: Tensor, kept: Tensor, given: Tensor, shares: Tensor) -> Tensor:
    """Mean acceptance sum_x min(p, (1 - e) q' + e A^T q') for every e: concave, piecewise linear.

    Args:
        p, kept, given: (n, V) the target's distribution, q' lifted to V, and A^T q'. shares: (E,).

    Returns:
        float64 (E,).
    """
    moved = given - kept
    found = [
        torch.minimum(p, torch.add(kept, moved, alpha=float(share))).sum(-1, dtype=torch.float64).mean()
        for share in shares
    ]
    return torch.stack(found)
