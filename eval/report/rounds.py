"""What single rounds say, for the report: acceptance by position, and what an oracle would have saved.

Reports hold sums, records hold every round; what is shown of rounds is therefore summed here, once, when the report is made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from drafters.samplers.draft import StringProposal, Tree
from eval.costs.forwards import Costs
from eval.report.row import Position, RowRounds
from eval.run.configurations import Contender
from eval.run.metrics import acceptance_rate
from eval.run.records import AUTOREGRESSIVE, SPECULATIVE, TRANSFORMERS, Configuration, Record
from eval.stats.bootstrap import Vector, interval

POSITIONS = 16  # further ones are rare and their intervals wide


def forward_per_draft(contender: Contender) -> bool:
    """Whether its drafter runs once per draft: chains of token-level samplers, in this process."""
    sampler = contender.sampler
    if sampler is None or contender.configuration.executor != SPECULATIVE:
        return False
    return not isinstance(sampler.proposal, StringProposal) and not isinstance(sampler.shape, Tree)


def by_round(records: Iterable[Record], costs: Costs, counted: Collection[Configuration]) -> tuple[RowRounds, ...]:
    """One entry per speculative configuration.

    Args:
        records: of all repeats; the first of each prompt counts, as in the rows.
        counted: configurations of which `forward_per_draft` is true.
    """
    grouped: dict[Configuration, dict[str, Record]] = {}
    for item in records:
        if item.configuration.executor not in (AUTOREGRESSIVE, TRANSFORMERS):
            grouped.setdefault(item.configuration, {}).setdefault(item.prompt, item)
    return tuple(_entry(key, list(found.values()), costs, key in counted) for key, found in grouped.items())


def _entry(key: Configuration, prompts: list[Record], costs: Costs, counted: bool) -> RowRounds:
    return RowRounds(
        temperature=key.temperature,
        drafter=key.drafter,
        preset=key.preset,
        executor=key.executor,
        stop=key.stop,
        sampler=key.sampler,
        positions=positions(prompts),
        drafter_forwards=sum(item.drafted for item in prompts) if counted else None,
        oracle_by_costs=oracle(prompts, costs, str(key.drafter)),
    )


def positions(prompts: list[Record]) -> tuple[Position, ...]:
    """Acceptance at positions 1, 2, ... with intervals over prompts; ends where nothing was tested."""
    longest = max((verified for item in prompts for _, verified, _, _ in item.rounds), default=0)
    found = []
    for place in range(1, min(longest, POSITIONS) + 1):
        tested, accepted = _rounds(prompts, 1, place), _rounds(prompts, 2, place)
        counts = int(tested.sum()), int(accepted.sum())
        rate = acceptance_rate(counts[1], counts[0])
        found.append(Position(place, *counts, rate, *interval(np.divide, accepted, tested)))
    return tuple(found)


def oracle(prompts: list[Record], costs: Costs, drafter: str) -> float | None:
    """The speed-up of a stop policy that knows what will be accepted; None without rounds."""
    lengths = sorted(costs.target)
    times = [costs.target[n].median for n in lengths]
    seconds = sum(
        count * (accepted * costs.drafters[drafter].median + float(np.interp(accepted + 1, lengths, times)))
        for item in prompts
        for _, _, accepted, count in item.rounds
    )
    return sum(item.tokens for item in prompts) * costs.t / seconds if seconds else None


def _rounds(prompts: list[Record], column: int, at_least: int) -> Vector:
    """Per prompt, the rounds whose number in this column reaches `at_least`: float64 (P,)."""
    return np.array(
        [sum(kind[3] for kind in item.rounds if kind[column] >= at_least) for item in prompts], dtype=np.float64
    )
