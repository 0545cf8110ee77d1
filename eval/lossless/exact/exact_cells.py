"""The exact distribution by cells (sampler x tree x policy x warp x pair), from the production engine, unsampled."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from drafters.engine.limits import Limits
from drafters.engine.prefill import allows
from drafters.probs import Sampling
from drafters.samplers.draft import Sampler, Tree
from eval.lossless.exact.exact_law import exact_law, largest_error, reference_law
from eval.lossless.toys.toy_pairs import TOYS, affordable, small
from eval.lossless.toys.toy_policies import STOPS

TOLERANCE = 1e-12
WARPS: dict[str, tuple[Sampling, Sampling | None]] = {  # of the target; of the drafter where it has one of its own
    "T=0.7": (Sampling(0.7), None),
    "T=0": (Sampling(0.0), None),
    "top-k": (Sampling(1.0, top_k=2), None),
    "top-p": (Sampling(1.0, top_p=0.8), None),
    "all": (Sampling(0.7, top_k=2, top_p=0.9), None),
    "other q": (Sampling(1.0), Sampling(2.0, top_k=2)),
    "greedy q": (Sampling(1.0), Sampling(0.0)),
    "greedy p": (Sampling(0.0), Sampling(1.0)),
}
PLAIN = "T=1"
SHAPES = ((2,), (3,), (2, 1), ((2,), (0, 2)))  # besides (1, 2); the last one's nodes differ in children


@dataclass(frozen=True)
class Cell:
    """One combination of sampler, tree, policy, warp and pair; `error` runs it."""

    sampler: str
    toy: str
    stop: str
    warp: str
    branching: tuple[int | tuple[int, ...], ...] | None = None  # None: a chain

    def build(self) -> Sampler:
        """The catalog's sampler, on the small tree. Raises ValueError where it refuses the pair."""
        sampler = TOYS[self.toy].sampler(self.sampler)
        if sampler is None:
            raise ValueError(f"sampler {self.sampler!r} does not take the pair {self.toy!r}.")
        return sampler if self.branching is None else small(sampler, self.branching)

    @property
    def limits(self) -> Limits:
        """The number of new tokens, and the warps of target and drafter, of this cell."""
        target, drafter = WARPS.get(self.warp, (Sampling(), None))
        return Limits(TOYS[self.toy].new, target, drafter)

    def error(self) -> float:
        """The largest difference between a sequence's probability and the target's; mass that is missing counts, too."""
        toy, sampler = TOYS[self.toy], self.build()
        limits = affordable(sampler, self.limits)
        if self.branching in SHAPES[1:] and limits.sampling.top_k == 0:
            limits = replace(limits, sampling=replace(limits.sampling, top_k=2))  # these trees have too many outcomes
        law = exact_law(sampler, STOPS[self.stop], toy.pair, toy.prompt, limits)
        reference = reference_law(toy.pair, toy.prompt, limits)
        return max(largest_error(law, reference), abs(math.fsum(law.values()) - 1.0))


def cells(name: str) -> Iterator[Cell]:
    """All cells of one sampler of the catalog; none where it is coupled: its coins have no finite set of outcomes."""
    for toy in TOYS:
        sampler = TOYS[toy].sampler(name)
        if sampler is None or sampler.verifier.coupled:
            continue
        tree = isinstance(sampler.shape, Tree)
        if tree and TOYS[toy].pair.texts:
            continue  # trees never see the texts: these pairs are two more foreign ones, and the largest
        shape = (1, 2) if tree else None
        for stop, make in STOPS.items():
            if allows(sampler, make()):
                yield Cell(name, toy, stop, PLAIN, shape)
        for warp in WARPS:
            yield Cell(name, toy, "length 2", warp, shape)
        if tree and toy == "full":
            for branching in SHAPES:
                yield Cell(name, toy, "length 2", PLAIN, branching)
