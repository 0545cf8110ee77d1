"""Each verifier beside the best one for its drafts, on logged p and q (eval.acceptance.observed_laws).

With k children of one node drawn from q as the sampler draws them, `expected` is the probability that the verifier
accepts one of them, the optimum the highest that any lossless verifier reaches with these drafts; both follow from the
distributions without any noise of coins, and all samplers of a drafter are compared on common distributions. `measured`
is how often a sampler's own rounds accepted at their root: where that does not fit what is expected there, something is
wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from drafters.samplers.draft import Sampler, Tree, Verifier
from drafters.samplers.tree.siblings import OneDrawnThenTop, WithoutReplacement, WithReplacement
from drafters.samplers.verify.block import Block
from drafters.samplers.verify.exact_match import ExactMatch
from drafters.samplers.verify.greedy import Greedy
from drafters.samplers.verify.kseq import KSeq
from drafters.samplers.verify.race import Race
from drafters.samplers.verify.rejection import Rejection
from drafters.samplers.verify.rrs import RRS
from drafters.samplers.verify.traversal import Traversal
from eval.acceptance.observed_laws import Observed
from eval.acceptance.optimal import optimal_acceptance, race_acceptance
from eval.acceptance.race_ranks import estimate_rank_law, race_speedup_ceiling
from eval.acceptance.verifier_formulas import (
    acceptance_kseq,
    acceptance_rrs_with_replacement,
    acceptance_token,
    estimate_rrs_without_replacement,
)

RANKS = 16  # of a measured rank distribution; what lies beyond counts as one further rank
SAMPLES = 32  # races, and draws without replacement, per round
CERTAIN = 1e-9  # that unlikely an excess over the optimum is none of chance
COSTLY = 200_000  # V times positions on which the optimum of 3 and more draws without replacement takes seconds


@dataclass(frozen=True)
class Optimum:
    """Means over R rounds. Rates are None where nothing is known in closed form."""

    law_rounds: int  # R of the sampler's own rounds
    drafts_at_root: int  # k
    measured_at_root: float
    expected_at_root: float | None
    z_at_root: float | None  # (measured - expected) in standard errors of the coins
    tampered_rounds: int  # the distribution verified against was not the one drawn from
    excess_chance: float  # at most this likely is it for a lossless verifier to accept as often as measured
    common_laws: int  # what the following are means over, the same for all samplers of a drafter at a temperature
    expected_acceptance: float | None
    optimal_acceptance: float
    gap_to_optimum: float | None

    def fields(self) -> dict[str, Any]:
        """The fields as a dictionary, named as in the report's rows."""
        return asdict(self)

    @property
    def lossy(self) -> str | None:
        """Why the rounds cannot be those of a lossless sampler; None where they can."""
        if self.tampered_rounds:
            return "verified against another law than drafts were drawn from"
        if self.excess_chance < CERTAIN:
            return f"accepts {self.measured_at_root:.3f} at the root, more than a lossless verifier can with its laws"
        return None


def draft_law(sampler: Sampler) -> tuple[str, int]:
    """How the root's children are drawn, as a scheme of `optimal_acceptance`, and how many there are."""
    return sampler.verifier.scheme, sampler.shape.levels[0][0] if isinstance(sampler.shape, Tree) else 1


def best(seen: Observed, scheme: str, count: int) -> Tensor:
    """The optimum for drafts of one scheme on logged rounds, float64 (R,); on a part of them where it is costly."""
    costly = scheme == "without_replacement" and count > 2
    part = seen.sample(max(1, COSTLY // seen.p.shape[-1])) if costly else seen
    return optimal_acceptance(part.p, part.q, count, scheme).clamp(0.0, 1.0)


def optimum(sampler: Sampler, own: Observed, common: Observed, highest: Tensor, seed: int = 0) -> Optimum:
    """The summary of a sampler's rounds; `sampler` is the one without `Observer`.

    `own`: what its own rounds met. `common`: distributions to compare samplers on, with `highest` = `best` of them.
    """
    scheme, count = draft_law(sampler)
    generator = torch.Generator().manual_seed(seed)
    chance, measured = expected(sampler, own, count, generator), float(own.accepted.double().mean())
    limit = best(own, scheme, count) if chance is None else chance
    if len(limit) < len(own.p):
        limit = limit.mean().expand(len(own.p))
    shared = expected(sampler, common.sample(len(highest)), count, generator)
    top, mean = float(highest.mean()), None if shared is None else float(shared.mean())
    return Optimum(
        law_rounds=len(own.p),
        drafts_at_root=count,
        measured_at_root=measured,
        expected_at_root=None if chance is None else float(chance.mean()),
        z_at_root=None if chance is None else _z(measured - float(chance.mean()), chance),
        tampered_rounds=own.tampered,
        excess_chance=_excess_chance(int(own.accepted.sum()), limit),
        common_laws=len(highest),
        expected_acceptance=mean,
        optimal_acceptance=top,
        gap_to_optimum=None if mean is None else top - mean,
    )


def expected(sampler: Sampler, seen: Observed, count: int, generator: torch.Generator) -> Tensor | None:
    """Probability that one of `count` children of the root is accepted, float64 (R,); None without a formula."""
    rule = _ACCEPTANCE.get(type(sampler.verifier))
    chance = None if rule is None else rule(sampler.verifier, seen.p, seen.q, count, generator)
    return None if chance is None else chance.clamp(0.0, 1.0)


@dataclass(frozen=True)
class Ranks:
    """The race's measured distribution of ranks and what follows from it."""

    law: list[float]  # Pr(the target's token is the drafter's r-th arrival), r = 1..RANKS
    race_acceptance: float  # of one draft, exactly
    entropy: float  # H[R] in bits; what lies beyond RANKS counts as one rank

    def ceiling(self, vocabulary: int, nodes: int) -> float | None:
        """Most tokens per target forward of any tree of `nodes` nodes; None where the rank is certain."""
        value = float(race_speedup_ceiling(torch.tensor(self.law), vocabulary, nodes))
        return value if math.isfinite(value) else None


def ranks(seen: Observed, seed: int = 0) -> Ranks:
    """The ranks R of logged rounds: (log V + log(K + 1)) / H[R] bounds what K nodes can reach (arXiv 2504.15475)."""
    generator = torch.Generator().manual_seed(seed)
    law = estimate_rank_law(seen.p, seen.q, RANKS, SAMPLES, generator).law.mean(0)
    full = torch.cat([law, (1.0 - law.sum()).clamp(min=0.0).unsqueeze(0)])
    entropy = float(-torch.special.xlogy(full, full).sum() / math.log(2.0))
    return Ranks(law.tolist(), float(race_acceptance(seen.p, seen.q).mean()), abs(entropy))


def _z(difference: float, chance: Tensor) -> float | None:
    """The difference of means in standard errors of R independent coins with these chances; None without any spread."""
    error = math.sqrt(float((chance * (1 - chance)).sum())) / len(chance)
    return difference / error if error > 0 else None


def _excess_chance(accepted: int, best: Tensor) -> float:
    """Bernstein's bound on Pr(at least so many of R coins with chances of at most `best` fall on accept)."""
    excess = accepted - float(best.sum())
    if excess <= 0:
        return 1.0
    spread = float((best * (1 - best)).sum())
    return math.exp(-(excess**2) / (2 * (spread + excess / 3)))


Rule = Callable[[Any, Tensor, Tensor, int, torch.Generator], Tensor | None]


def _rejection(verifier: Verifier, p: Tensor, q: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return acceptance_token(p, q)  # block decides the first token of a chain with the same probability


def _own_sample(verifier: Verifier, p: Tensor, q: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return (p.double() * q.double()).sum(-1)


def _kseq(verifier: Verifier, p: Tensor, q: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return acceptance_kseq(p, q, count)[0]


def _greedy(verifier: Verifier, p: Tensor, q: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return optimal_acceptance(p, q, count, "greedy")


def _recursive(verifier: Any, p: Tensor, q: Tensor, count: int, generator: torch.Generator) -> Tensor:
    if isinstance(verifier.siblings, WithReplacement):
        return acceptance_rrs_with_replacement(p, q, count)
    if isinstance(verifier.siblings, WithoutReplacement):
        return estimate_rrs_without_replacement(p, q, count, SAMPLES, generator).mean
    return _greedy(verifier, p, q, count, generator)


def _traversal(verifier: Any, p: Tensor, q: Tensor, count: int, generator: torch.Generator) -> Tensor | None:
    if isinstance(verifier.siblings, OneDrawnThenTop) or count == 1:
        return _greedy(verifier, p, q, count, generator)  # recursive rejection is optimal there, and traversal no worse
    return None


def _race(verifier: Verifier, p: Tensor, q: Tensor, count: int, generator: torch.Generator) -> Tensor:
    if count == 1:
        return race_acceptance(p, q)
    return estimate_rank_law(p, q, count, SAMPLES, generator).law.sum(-1)


_ACCEPTANCE: dict[type, Rule] = {
    Rejection: _rejection,
    Block: _rejection,
    ExactMatch: _own_sample,
    KSeq: _kseq,
    Greedy: _greedy,
    RRS: _recursive,
    Traversal: _traversal,
    Race: _race,
}
