"""Logs laws for all contenders of an evaluation: a short untimed run of each, in one batch, watched (eval.acceptance.observed_laws)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drafters.engine.decode import speculative
from drafters.rng.coins import KeyedCoins
from drafters.samplers.draft import Sampler, Tree
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.proposal.tli import TLI
from drafters.stop.policies.static import Static
from drafters.stop.policy import StopPolicy
from eval.acceptance.observed_laws import Observed, observe
from eval.acceptance.optimality_gap import Optimum, Ranks, best, draft_law, optimum, ranks
from eval.run.configurations import Contender, Drafter, applicable
from eval.run.sampler_files import Preset
from eval.run.trials import Warps

BATCH = 8  # prompts in one run
RACE = Preset("race", "race")


@dataclass
class Laws:
    """Watches contenders on the same prompts. `rounds` are logged per contender, at most.

    Ranks are found once per drafter and temperature; `known` holds those of an earlier run that was cut off.
    """

    prompts: Sequence[Tensor]  # int64 (n,)
    rounds: int
    seed: int
    warps: Warps
    longest: int  # new tokens that there is room for behind the prompts
    known: dict[tuple[str, float], Ranks] = field(default_factory=dict)
    _common: dict[tuple[str, float], Observed | None] = field(default_factory=dict)
    _best: dict[tuple[str, float, str, int], Tensor] = field(default_factory=dict)

    def optimum(self, contender: Contender) -> Optimum | None:
        """The contender beside the optimum of its draft law; None for plain decoding and string-level samplers."""
        if contender.sampler is None or contender.drafter is None or contender.stop is None:
            return None
        sampler, drafter, temperature = contender.sampler, contender.drafter, contender.configuration.temperature
        own = self._watch(drafter, sampler, contender.stop, temperature)
        if own is None:
            return None
        # Other proposals draw from laws of their own, which no other sampler meets.
        shared = self.common(drafter, temperature) if isinstance(sampler.proposal, Identity | TLI) else None
        if shared is None:
            return optimum(sampler, own, own, best(own, *draft_law(sampler)), self.seed)
        name = (drafter.name, temperature, *draft_law(sampler))
        if name not in self._best:
            self._best[name] = best(shared, *draft_law(sampler))
        return optimum(sampler, own, shared, self._best[name], self.seed)

    def common(self, drafter: Drafter, temperature: float) -> Observed | None:
        """Laws met by a race of one draft: the target's own text, whatever the sampler on trial."""
        name = drafter.name, temperature
        if name not in self._common:
            sampler = applicable(RACE, drafter)
            self._common[name] = None if sampler is None else self._watch(drafter, sampler, Static(1), temperature)
        return self._common[name]

    def ranks(self, drafter: Drafter, temperature: float) -> Ranks | None:
        """The measured rank law of a race with this drafter; None where the drafter cannot race or drafted nothing."""
        name = drafter.name, temperature
        if name not in self.known:
            seen = self.common(drafter, temperature)
            if seen is None:
                return None
            self.known[name] = ranks(seen, self.seed)
        return self.known[name]

    def _watch(self, drafter: Drafter, sampler: Sampler, stop: StopPolicy, temperature: float) -> Observed | None:
        watched = observe(sampler)
        if watched is None:
            return None
        coated, observer = watched
        prompts = list(self.prompts[:BATCH])
        # About three tokens come out of a round, and the last one of a request drafts nothing.
        tokens = min(self.longest, 3 * -(-self.rounds // len(prompts)) + 1)
        device = drafter.pair.device
        coins = KeyedCoins(self.seed, torch.arange(len(prompts), device=device))
        speculative(drafter.pair, coated, stop, prompts, coins, self.warps.limits(temperature, tokens))
        seen = observer.result()
        return None if seen is None else seen.sample(self.rounds)


def nodes(contender: Contender) -> int | None:
    """Nodes of the largest draft of a round; None for plain decoding."""
    if contender.sampler is None or contender.stop is None:
        return None
    longest = contender.stop.max_length
    shape = contender.sampler.shape
    return sum(map(sum, shape.levels[:longest])) if isinstance(shape, Tree) else longest
