"""The verdict of an evaluation: what to decode with, chosen by expectation and measured costs, confirmed by the clock.

All candidates are ranked by predicted speed. The first few then run by the clock beside plain decoding, taking turns, on prompts
that played no part in the ranking; the fastest that the clock can tell from plain decoding is recommended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from drafters.package.recommendation.choices import Choice, Rated, Speedup, Use
from drafters.probs import Sampling
from drafters.samplers.draft import Tree
from eval.costs.forwards import Costs
from eval.run.metrics import Samples, speedup
from eval.run.records import Configuration
from eval.verdict.candidates import Candidate

OFF = 1.5  # clock and prediction differ by more than this factor: a price or an acceptance is wrong
PLAIN = Rated(use=Use(), speedup=Speedup(1.0, 1.0, 1.0), predicted=1.0, prompts=0)
NAMES = {
    "package": "the pruned drafter",
    "tail": "the pruned drafter with its tail",
    "unpruned": "the unpruned drafter",
}


@dataclass(frozen=True)
class Confirmed:
    """A candidate beside plain decoding on the same unseen prompts."""

    candidate: Candidate
    ratio: float
    low: float
    high: float
    prompts: int

    @property
    def gains(self) -> bool:
        """Whether the clock can tell it from plain decoding."""
        return self.low > 1.0

    def rated(self) -> Rated:
        """The candidate's entry in ``recommended.json``: use, speed-up with interval, prediction."""
        return Rated(
            use=use(self.candidate),
            speedup=Speedup(self.ratio, self.low, self.high),
            predicted=self.candidate.predicted.ratio,
            prompts=self.prompts,
        )


def use(item: Candidate) -> Use:
    """The candidate as a `Use` with the catalogs' names; a tree is drafted whole."""
    return Use(
        form=item.drafter.name,
        sampler=item.preset.name,
        options=item.options,
        stop=item.stop,
        length=item.length if item.policy is None else None,
    )


def confirm(items: Sequence[Candidate], measured: Mapping[Configuration, Samples], plain: Samples) -> list[Confirmed]:
    """The candidates with what the clock says of them, fastest first; those without an interval are left out."""
    found = []
    for item in items:
        ratio = speedup(measured[item.configuration], plain)
        if ratio is not None and ratio.low is not None and ratio.high is not None:
            found.append(Confirmed(item, ratio.value, ratio.low, ratio.high, len(plain.seconds)))
    return sorted(found, key=lambda item: -item.ratio)


def verdict(confirmed: Sequence[Confirmed], ranked: Sequence[Candidate], sampling: Sampling, costs: Costs) -> Choice:
    """What to use for one distribution. Raises ValueError where there is no candidate at all."""
    if not ranked:
        raise ValueError(
            "verdict: expected at least one candidate, got none: no sampler's acceptance follows from laws"
        )
    if (best := next((item for item in confirmed if item.gains), None)) is not None:
        others = [item for item in confirmed if item is not best]
        return _choice(best.rated(), sampling, _gain(best, others), [item.rated() for item in others])
    plain = replace(PLAIN, prompts=confirmed[0].prompts if confirmed else 0)
    reason = _no_gain(confirmed[0] if confirmed else None, ranked[0], costs)
    return _choice(plain, sampling, reason, [item.rated() for item in confirmed])


def _choice(best: Rated, sampling: Sampling, reason: str, others: Sequence[Rated]) -> Choice:
    return Choice(
        **vars(best),
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        reason=reason,
        next=tuple(others),
    )


def name_of(item: Candidate) -> str:
    """Name a candidate in words: drafter, sampler, drafts per round."""
    what = "level" if isinstance(item.sampler.shape, Tree) else "draft"
    per_round = f"{item.length} {what}{'' if item.length == 1 else 's'}"
    if item.policy is not None:
        per_round = f"as many drafts as the policy {item.stop} says, at most {item.length}"
    return f"{NAMES[item.drafter.name]}, sampler {item.preset.label}, {per_round} a round"


def surprises(confirmed: Sequence[Confirmed]) -> list[str]:
    """Where the clock is far from the prediction, in words: an acceptance or a price that it rests on is wrong."""
    return [
        f"{name_of(item.candidate)}: predicted {item.candidate.predicted.ratio:.2f}x, measured {item.ratio:.2f}x: more than a "
        f"factor {OFF:g} apart, so do not trust predictions of this run; measure again on an idle machine"
        for item in confirmed
        if not 1 / OFF < item.ratio / item.candidate.predicted.ratio < OFF
    ]


def _gain(best: Confirmed, others: Sequence[Confirmed]) -> str:
    said = (
        f"{name_of(best.candidate)}: {best.ratio:.2f}x plain decoding by the clock (95 %: {best.low:.2f} to {best.high:.2f}, "
        f"predicted {best.candidate.predicted.ratio:.2f}x)"
    )
    if others:
        second = others[0]
        unsure = "" if second.gains else ", which the clock cannot tell from plain decoding"
        said += f"; next {name_of(second.candidate)}, {second.ratio:.2f}x{unsure}"
    return said


def _no_gain(best: Confirmed | None, likely: Candidate, costs: Costs) -> str:
    item = likely if best is None else best.candidate
    c, more = costs.drafters[item.drafter.name].median / costs.t, costs.verify(2) / costs.t
    why = (
        f"a draft costs c = {c:.2f} of a target forward and is accepted with probability {item.acceptance:.2f}, and verifying one "
        f"token more makes a forward {more:.2f} times as long"
    )
    if best is None:
        return f"plain decoding: nothing was run by the clock; {name_of(item)} is predicted {item.predicted.ratio:.2f}x: {why}"
    ratio = f"{best.ratio:.2f}x of it ({best.low:.2f} to {best.high:.2f}"
    if best.high < 1:
        return f"plain decoding: the best of the others, {name_of(item)}, makes {ratio}): {why}"
    return f"plain decoding: the clock cannot tell the best of the others from it: {name_of(item)}, {ratio}, which includes 1): {why}"
