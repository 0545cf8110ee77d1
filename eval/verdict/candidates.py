"""What could be recommended: every form of the drafter with every sampler at every draft length, by predicted speed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from drafters.engine.decode import Speculative
from drafters.package.recommendation.uses import FORMS
from drafters.samplers.draft import Chain, Sampler, Tree
from drafters.stop.policies.static import Static
from drafters.stop.policy import StopPolicy
from eval.costs.forwards import Costs
from eval.expectation.expect import Expectation
from eval.expectation.expectation_summary import acceptance, tokens_per_forward
from eval.expectation.expected_rounds import Rounds, expected_rounds
from eval.run.configurations import Contender, Drafter, reference
from eval.run.records import SPECULATIVE, Configuration
from eval.run.sampler_files import Preset
from eval.verdict.prediction import Overheads, Prediction, predict, work

SAME = 1e-9  # relative: two distributions that differ by less are one
SAME_LAW = ("rdk_exact",)  # rdk's by another computation: a row where asked for, no candidate


@dataclass(frozen=True)
class Candidate:
    """A way to decode, and what it should be worth."""

    drafter: Drafter
    preset: Preset
    sampler: Sampler
    temperature: float
    length: int  # drafts of a chain, levels of a tree; the most of a policy
    acceptance: float
    tokens_per_forward: float
    predicted: Prediction
    stop: str = "static"  # of drafters.stop.catalog
    policy: StopPolicy | None = None  # None: the static one of `length`

    @property
    def options(self) -> dict[str, object]:
        """The options with which the sampler's builder makes this very one, a measured tree spelled out."""
        stated: dict[str, object] = {
            str(name): value for name, value in self.preset.options.items() if value is not None
        }
        if isinstance(self.sampler.shape, Tree) and len(stated) < len(self.preset.options):
            return {"branching": [list(level) for level in self.sampler.shape.levels]}
        return stated

    @property
    def configuration(self) -> Configuration:
        """The configuration that names the candidate in records."""
        stop = f"static {self.length}" if self.policy is None else self.stop
        names = self.drafter.name, self.preset.name, SPECULATIVE, stop
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
    """All lengths of all entries whose form a package has, fastest first by prediction.

    Of entries with the same expected rounds (one distribution, one rule) only the first is a candidate, the form's
    plain rejection first.
    """
    able = [entry for entry in entries if entry.drafter.name in FORMS and entry.preset.label not in SAME_LAW]
    able.sort(key=lambda entry: entry.preset.label != reference(entry.drafter).label)
    found: list[Candidate] = []
    for entry in able:
        rate = acceptance(entry.expectation).value
        for length in _lengths(entry, longest):
            rounds = rounds_of(entry, length)
            own = work(entry.sampler, length)
            predicted = predict(rounds, entry.drafter.name, entry.preset.label, own, costs, extra)
            item = Candidate(
                entry.drafter, entry.preset, entry.sampler, temperature, length,
                rate, tokens_per_forward(rounds).value, predicted,
            )  # fmt: skip
            if not any(_same_rounds(item, other) for other in found):
                found.append(item)
    return sorted(found, key=lambda item: -item.predicted.ratio)


def shortlist(ranked: Sequence[Candidate], count: int) -> list[Candidate]:
    """The first `count` that differ in more than their length."""
    chosen: dict[tuple[str, str, str], Candidate] = {}
    for item in ranked:
        if len(chosen) < count:
            chosen.setdefault((item.drafter.name, item.preset.label, item.stop), item)
    return list(chosen.values())


def _same_rounds(item: Candidate, other: Candidate) -> bool:
    close = abs(item.tokens_per_forward - other.tokens_per_forward) <= SAME * other.tokens_per_forward
    return (
        item.drafter.name == other.drafter.name
        and item.length == other.length
        and close
        and _nodes(item) == _nodes(other)
    )


def _nodes(item: Candidate) -> int:
    return work(item.sampler, item.length).nodes[-1]


def _lengths(entry: Entry, longest: int) -> Sequence[int]:
    if isinstance(entry.sampler.shape, Chain):
        return range(1, min(longest, entry.expectation.longest) + 1)
    return [len(entry.sampler.shape.levels)]


def contender(item: Candidate) -> Contender:
    """The candidate, ready to run."""
    stop = item.policy or Static(item.length)
    run = partial(Speculative().decode, item.drafter.pair, item.sampler, stop)
    return Contender(item.configuration, run, item.sampler, item.drafter, stop)
