"""What could be recommended: every form of the drafter with every sampler at every draft length, by predicted speed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from drafters.engine.decode import Speculative
from drafters.package.uses import FORMS
from drafters.samplers.draft import Chain, Sampler
from drafters.stop.static import Static
from eval.contenders import Contender, Drafter
from eval.costs import Costs
from eval.expectation.expect import Expectation
from eval.expectation.rounds import Rounds, expected_rounds
from eval.expectation.summary import acceptance, tokens_per_forward
from eval.prediction import Overheads, Prediction, predict, work
from eval.presets import Preset
from eval.records import SPECULATIVE, Configuration

SAME = 1e-9  # relative: two laws that differ by less are one


@dataclass(frozen=True)
class Candidate:
    """A way to decode, and what it should be worth."""

    drafter: Drafter
    preset: Preset
    sampler: Sampler
    temperature: float
    length: int  # drafts of a chain, levels of a tree
    acceptance: float
    tokens_per_forward: float
    predicted: Prediction

    @property
    def configuration(self) -> Configuration:
        """Names it in records."""
        names = self.drafter.name, self.preset.name, SPECULATIVE, f"static {self.length}"
        return Configuration(*names, self.temperature, self.drafter.kept, self.preset.label)


@dataclass(frozen=True)
class Entry:
    """A pairing of a drafter and a preset with its sampler as built, and its expectation."""

    drafter: Drafter
    preset: Preset
    sampler: Sampler
    expectation: Expectation


def rounds_of(entry: Entry, length: int) -> Rounds:
    """Expected rounds of so many drafts, or of a tree cut to so many levels."""
    return expected_rounds(entry.expectation.followed, length)


def candidates(
    entries: Iterable[Entry], temperature: float, costs: Costs, extra: Overheads, longest: int
) -> list[Candidate]:
    """All lengths of all entries whose form a package has, fastest first by prediction; of equal ones the first entry's."""
    found = []
    for entry in entries:
        if entry.drafter.name not in FORMS:
            continue
        rate = acceptance(entry.expectation).value
        for length in _lengths(entry, longest):
            rounds = rounds_of(entry, length)
            own = work(entry.sampler, length)
            predicted = predict(rounds, entry.drafter.name, entry.preset.label, own, costs, extra)
            found.append(
                Candidate(
                    entry.drafter, entry.preset, entry.sampler, temperature, length,
                    rate, tokens_per_forward(rounds).value, predicted,
                )
            )  # fmt: skip
    return sorted(found, key=lambda item: -item.predicted.ratio)


def shortlist(ranked: Sequence[Candidate], count: int) -> list[Candidate]:
    """The first `count` that differ in more than their length; one of those that draft by one law and one rule."""
    chosen: list[Candidate] = []
    for item in ranked:
        if len(chosen) == count:
            break
        if not any(_alike(item, other) for other in chosen):
            chosen.append(item)
    return chosen


def _alike(item: Candidate, other: Candidate) -> bool:
    if item.drafter.name != other.drafter.name:
        return False
    same_kind = type(item.sampler.verifier) is type(other.sampler.verifier)
    return item.preset.label == other.preset.label or (
        same_kind and abs(item.acceptance - other.acceptance) <= SAME * other.acceptance
    )


def _lengths(entry: Entry, longest: int) -> Sequence[int]:
    if isinstance(entry.sampler.shape, Chain):
        return range(1, min(longest, entry.expectation.longest) + 1)
    return [len(entry.sampler.shape.levels)]


def contender(item: Candidate) -> Contender:
    """The candidate, ready to run."""
    stop = Static(item.length)
    run = partial(Speculative().decode, item.drafter.pair, item.sampler, stop)
    return Contender(item.configuration, run, item.sampler, item.drafter, stop)
