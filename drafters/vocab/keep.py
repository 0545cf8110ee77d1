"""Which tokens a pruned head keeps: the most frequent ones, after the protected ones.

One ranking serves every size: protected tokens first, then by count, ties by id. Byte-pair ids are in merge order, so
the lowest id is also the likelier token where the counts cannot tell (never-counted tokens included). A prior, in counts, adds what
else is known of how often tokens come.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from drafters.errors import DraftersError


class KeepError(DraftersError):
    """A selection that cannot be made."""


class TooManyTokens(KeepError):
    """More tokens, or more coverage, asked for than there is."""


class BelowProtected(KeepError):
    """A size that cannot hold the protected tokens, or what the domains' minimum coverage needs."""


class EmptyCounts(KeepError):
    """Counts that are all zero: there is nothing to rank by."""


class CountMismatch(KeepError):
    """Raised for counts that do not fit the vocabulary: other length, other tokenizer, negative entries."""


@dataclass(frozen=True)
class Selection:
    """The kept tokens and how much of the counted text they cover; coverages are shares in [0, 1]."""

    kept: Tensor  # int64 (D,) ascending ids
    coverage: float
    domain_coverage: dict[str, float]
    protected: int  # tokens kept whatever their count
    uncounted: int  # kept tokens, not protected, that the text never uses: filled by the prior, then by lowest id


def rank(
    counts: Tensor,  # int64 (V,)
    protected: Tensor,  # int64 (n,) ids
    eligible: Tensor,  # bool (V,)
    prior: Tensor | None = None,  # float64 (V,) counts that other knowledge is worth
) -> Tensor:
    """The order in which tokens are kept, int64 (E,): protected by id, then eligible by count and prior, ties by lowest id."""
    first = protected.unique()
    rest = eligible.clone()
    rest[first] = False
    rest = rest.nonzero().flatten()
    score = counts if prior is None else counts + prior
    return torch.cat([first, rest[score[rest].argsort(descending=True, stable=True)]])


def select(
    counts: Tensor,  # int64 (V,)
    protected: Tensor,  # int64 (n,) ids
    *,
    size: int | None = None,
    coverage: float | None = None,
    eligible: Tensor | None = None,  # bool (V,), default: every id
    domains: Mapping[str, Tensor] | None = None,  # name -> int64 (V,)
    min_domain_coverage: float = 0.0,
    prior: Tensor | None = None,  # float64 (V,), see `rank`
) -> Selection:
    """Keep ``size`` tokens, or the fewest that cover the share ``coverage`` of the text, in the order of `rank`.

    Where a domain stays below ``min_domain_coverage``, the most frequent tokens of every domain come first, each up to
    that share. Counts of ids that are not eligible (no target image, padding) stay in the denominator: they are text
    that is not covered. Raises KeepError's subclasses, which say what was expected and which option to change.
    """
    eligible = torch.ones_like(counts, dtype=torch.bool) if eligible is None else eligible
    domains = domains or {}
    protected = protected.unique()
    _check(counts, domains, eligible, protected)
    _check_domains(domains, min_domain_coverage)
    _check_size(int(eligible.sum() + (~eligible[protected]).sum()), len(protected), size, coverage)
    first, order = protected, rank(counts, protected, eligible, prior)
    kept = order[: _length(counts, order, len(first), size, coverage)]
    if any(share(row, kept) < min_domain_coverage for row in domains.values()):
        first = _domain_floor(domains, protected, eligible, min_domain_coverage)
        if size is not None and size < len(first):
            raise BelowProtected(
                f"{size:,} tokens cannot cover {min_domain_coverage:.1%} of every domain beside the protected tokens, "
                f"expected at least {len(first):,}: raise prune.size or lower prune.min_domain_coverage"
            )
        order = rank(counts, first, eligible, prior)
        kept = order[: _length(counts, order, len(first), size, coverage)]
    kept = kept.sort().values
    free = kept[~torch.isin(kept, protected)]
    return Selection(
        kept=kept,
        coverage=share(counts, kept),
        domain_coverage={name: share(row, kept) for name, row in domains.items()},
        protected=len(protected),
        uncounted=int((counts[free] == 0).sum()),
    )


def share(counts: Tensor, kept: Tensor) -> float:
    """The share of the counted text (V,) that is spelled by the ids ``kept``; of no text, all is covered."""
    total = int(counts.sum())
    return int(counts[kept].sum()) / total if total else 1.0


def _length(counts: Tensor, order: Tensor, floor: int, size: int | None, coverage: float | None) -> int:
    """How many tokens of ``order`` to keep, at least ``floor``."""
    if size is not None or coverage is None:
        return size or floor
    reached = counts[order].cumsum(0).double() / int(counts.sum())
    short = int((reached < coverage).sum())
    if short == len(order):
        raise TooManyTokens(
            f"a coverage of {coverage:.4%} was asked for, but all {len(order):,} tokens that can be kept cover "
            f"{share(counts, order):.4%}: lower prune.coverage or prune.min_domain_coverage"
        )
    return max(floor, short + 1)


def _domain_floor(domains: Mapping[str, Tensor], protected: Tensor, eligible: Tensor, minimum: float) -> Tensor:
    """Protected tokens plus, for every domain, the shortest prefix of its own ranking that reaches ``minimum``."""
    needed = [protected]
    for name, row in domains.items():
        if not int(row.sum()):
            continue  # a domain without text asks for nothing
        order = rank(row, protected, eligible)
        try:
            needed.append(order[: _length(row, order, 0, None, minimum)])
        except TooManyTokens as error:
            raise TooManyTokens(f"domain {name!r}: {error}") from None
    return torch.cat(needed).unique()


def _check(counts: Tensor, domains: Mapping[str, Tensor], eligible: Tensor, protected: Tensor) -> None:
    for name, row in [("counts", counts), *((f"counts of domain {name!r}", row) for name, row in domains.items())]:
        if row.dtype != torch.int64 or row.shape != eligible.shape:
            raise CountMismatch(
                f"{name} must be int64 of shape (V,)=({len(eligible)},), got {row.dtype} of {tuple(row.shape)}: "
                "they belong to another vocabulary; run stage=count for this pair"
            )
        if (row < 0).any():
            raise CountMismatch(f"{name} must be 0 or more, got {int(row.min())}: run stage=count again")
    if not int(counts.sum()):
        raise EmptyCounts(
            f"all {len(counts):,} counts are zero, expected counts of some text: check corpus and generate, "
            "then run stage=count again"
        )
    if len(protected) and (int(protected[0]) < 0 or int(protected[-1]) >= len(counts)):
        raise CountMismatch(
            f"protected ids must lie in [0, {len(counts)}), got [{int(protected[0])}, {int(protected[-1])}]: "
            "the tokenizer does not belong to the counts; check pair.target and pair.drafter"
        )


def _check_domains(domains: Mapping[str, Tensor], minimum: float) -> None:
    if not 0 <= minimum <= 1:
        raise KeepError(f"expected a minimum coverage in [0, 1], got {minimum}: set prune.min_domain_coverage")
    if minimum > 0 and not domains:
        raise CountMismatch(
            f"a minimum coverage of {minimum:.1%} per domain was asked for, but the counts are not split by domain: "
            "run stage=count again, or set prune.min_domain_coverage=0"
        )


def _check_size(available: int, protected: int, size: int | None, coverage: float | None) -> None:
    if (size is None) == (coverage is None):
        raise KeepError(f"expected a size or a coverage, got size={size} and coverage={coverage}: set one of them")
    if coverage is not None and not 0 < coverage <= 1:
        raise KeepError(f"expected a coverage in (0, 1], got {coverage}: set prune.coverage")
    if size is not None and size > available:
        raise TooManyTokens(
            f"{size:,} tokens were asked for, but only {available:,} can be kept (a token needs a target image): "
            f"set prune.size to at most {available:,}"
        )
    if size is not None and size < max(1, protected):
        raise BelowProtected(
            f"{size:,} tokens cannot hold the protected ones (end of sequence, the template's specials, "
            f"prune.protect), expected at least {max(1, protected):,}: raise prune.size"
        )
