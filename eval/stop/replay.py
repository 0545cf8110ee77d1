"""Stop policies replayed on recorded requests: what each would have drafted, at which cost, without running a model.

A trace knows of every position of a target's text whether a draft there would have been accepted, jointly with the text
(see pipeline.disco.traces.trace): what a replay of a chain rejection sampler accepts has exactly the distribution of
real decoding, and all policies are compared on the same text and the same coins. One thing is simplified: behind a
rejection the features stay those of the target's text, where a real drafter would go on from its own rejected token; so
for policies that read them, the number of drafts wasted there is an estimate; and a drafter of another tokenizer may
have to end a draft early, which a replay does not know. The policies are the production objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from drafters.stop.features import RECENT, STEP, UNKNOWN, past_columns, remember
from drafters.stop.policy import StopPolicy


@dataclass(frozen=True)
class Trace:
    """One request of n new tokens: what a draft for each of them would have been."""

    features: Tensor  # fp32 (n, F), the columns of the past left 0: they depend on the policy
    accepted: Tensor  # bool (n,) this very draft is accepted
    chance: Tensor  # fp32 (n,) min(1, p(x) / q(x)) of the drafted token x
    overlap: Tensor  # fp32 (n,) 1 - TV(p, q): the chance before x is known


@dataclass(frozen=True)
class Prices:
    """Seconds of what a round does, B = 1."""

    target: dict[int, float]  # n -> t(n), n tokens in one forward; linear in between, and on beyond the last two
    drafter: float  # d, a forward of one token
    stop: float = 0.0  # a decision of the policy, features included

    def verify(self, drafted: np.ndarray) -> np.ndarray:
        """Seconds of a target forward over the last token and (n,) drafts."""
        known = sorted(self.target)
        times = [self.target[n] for n in known]
        beyond = np.maximum(drafted + 1 - known[-1], 0)
        slope = (times[-1] - times[0]) / (known[-1] - known[0]) if len(known) > 1 else 0.0
        return np.interp(drafted + 1, known, times) + beyond * slope

    def draft(self, drafted: np.ndarray, described: int | None) -> np.ndarray:
        """Seconds of drafting (n,) tokens in a round. `described`: see `StopPolicy.asks_from`."""
        decisions = 0 if described is None else np.maximum(drafted - described + 1, 0)
        return drafted * self.drafter + decisions * self.stop

    def marginal(self, longest: int = 8) -> float:
        """c: one more draft, its decision and its verification included, in plain target forwards.

        Of a round that drafts at all: a target's second token in a forward costs more than its third (kernels for one row), and
        a policy that asks whether to go on has paid for that already.
        """
        t = self.verify(np.array([0, 1, longest]))
        return float((self.drafter + self.stop + (t[2] - t[1]) / (longest - 1)) / t[0])


@dataclass(frozen=True)
class Outcome:
    """What a policy did over all requests."""

    rounds: np.ndarray  # int (rounds, 4): request, drafted, accepted, tokens that could have been drafted
    tokens: int
    max_length: int
    described: int | None = field(default=None)  # see `StopPolicy.asks_from`

    @property
    def drafted(self) -> int:
        """The number of tokens drafted, rejected ones included."""
        return int(self.rounds[:, 1].sum())

    @property
    def accepted(self) -> int:
        """Tokens drafted that became output."""
        return int(self.rounds[:, 2].sum())

    @property
    def forwards(self) -> int:
        """The number of target forwards, one per round."""
        return len(self.rounds)

    @property
    def early(self) -> float:
        """Share of rounds that drafted less than they were allowed to."""
        possible = np.minimum(self.rounds[:, 3], self.max_length)
        return float((self.rounds[:, 1] < possible).mean())

    def seconds(self, prices: Prices) -> float:
        """The predicted seconds, from the measured costs of forwards and decisions."""
        drafted = self.rounds[:, 1]
        return float((prices.verify(drafted) + prices.draft(drafted, self.described)).sum())

    def speed(self, prices: Prices) -> float:
        """Tokens per t(1), the time of a plain target forward: the speed-up over plain decoding."""
        return self.tokens * prices.target[1] / self.seconds(prices)


def replay(traces: Sequence[Trace], stop: StopPolicy) -> Outcome:
    """Run the policy on all requests at once, as one batch. Raises ValueError for no request."""
    if not traces:
        raise ValueError("replay: expected at least one request, got none")
    length = torch.tensor([len(trace.accepted) for trace in traces])
    width = int(length.max()) + 1
    features = torch.zeros(len(traces), width, traces[0].features.shape[1])
    runs = torch.zeros(len(traces), width, dtype=torch.int64)
    for row, trace in enumerate(traces):
        features[row, : len(trace.features)] = trace.features
        runs[row, : len(trace.accepted)] = run_lengths(trace.accepted)
    rows = torch.arange(len(traces))
    stop.reset(rows)
    place = torch.zeros_like(length)
    streak, recent = (torch.full((len(traces),), value) for value in UNKNOWN)
    rounds = []
    while bool((place < length).any()):
        active = place < length
        room = (length - place - 1).clamp(min=0) * active
        drafted = _draft(stop, features, place, room, streak, recent)
        accepted = torch.minimum(drafted, runs.gather(1, place.clamp(max=width - 1).unsqueeze(1)).squeeze(1))
        took = rows[active]
        stop.on_verified(accepted[took], drafted[took], took)
        rounds.append(torch.stack([took, drafted[took], accepted[took], room[took]], 1))
        streak, recent = remember(streak, recent, accepted.float(), (accepted < drafted).float())
        place = place + (accepted + 1) * active
    table = torch.cat(rounds).numpy()
    return Outcome(table, int(length.sum()), stop.max_length, stop.asks_from)


def _draft(stop: StopPolicy, features: Tensor, place: Tensor, room: Tensor, streak: Tensor, recent: Tensor) -> Tensor:
    """One round of every row, in the engine's order of questions: drafted int64 (B,)."""
    drafted, go, seen, described = torch.zeros_like(place), room > 0, None, stop.asks_from
    for node in range(stop.max_length):
        go = go & (drafted < room)
        if described is None or not 0 < node < described:
            go = go & stop.should_continue(seen, drafted)
        if not bool(go.any()):
            break
        if described is not None and node + 1 >= described:
            where = (place + drafted).clamp(max=features.shape[1] - 1)
            seen = features[torch.arange(len(place)), where]
            seen[:, STEP : RECENT + 1] = past_columns(drafted, streak, recent)
        drafted = drafted + go
    return drafted


def run_lengths(accepted: Tensor) -> Tensor:
    """How many drafts in a row are accepted from each position on: bool (n,) -> int64 (n,)."""
    runs, run = [], 0
    for taken in reversed(accepted.tolist()):
        run = run + 1 if taken else 0
        runs.append(run)
    return torch.tensor(runs[::-1], dtype=torch.int64)
