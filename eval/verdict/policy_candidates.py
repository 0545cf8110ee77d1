"""Stop policies among the candidates: their rounds by replay on the common text, priced with the decisions that they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from drafters.stop.policy import StopPolicy
from eval.costs.forwards import Costs
from eval.expectation.expected_rounds import Rounds
from eval.stop.replay import Outcome, Trace, replay
from eval.verdict.candidates import Candidate
from eval.verdict.prediction import Overheads, Work, predict, work


def stopped(
    base: Candidate,
    name: str,
    policy: StopPolicy,
    traces: Sequence[Trace],
    decision: float,
    costs: Costs,
    extra: Overheads,
) -> Candidate:
    """`base`, which drafts a chain by plain rejection, under a stop policy.

    Args:
        name: of drafters.stop.catalog. traces: of the target's text and `base`'s drafts. decision: seconds of each, B = 1.
    """
    outcome = replay(traces, policy)
    rounds = rounds_of(outcome, [len(trace.accepted) for trace in traces])
    own = decided(work(base.sampler, policy.max_length), outcome.described, decision)
    return replace(
        base,
        stop=name,
        policy=policy,
        length=policy.max_length,
        tokens_per_forward=outcome.tokens / outcome.forwards,
        predicted=predict(rounds, base.drafter.name, base.preset.label, own, costs, extra),
    )


def rounds_of(outcome: Outcome, tokens: Sequence[int]) -> Rounds:
    """A replay's counts per request, whose numbers of tokens are `tokens`."""
    request, drafted, accepted, _ = outcome.rounds.T
    by_drafted = np.zeros((len(tokens), outcome.max_length + 1))
    np.add.at(by_drafted, (request, drafted), 1.0)

    def per_request(values: np.ndarray) -> np.ndarray:
        return np.bincount(request, values, minlength=len(tokens))

    return Rounds(
        tokens=np.array(tokens, dtype=np.float64),
        target_forwards=by_drafted.sum(1),
        accepted=per_request(accepted),
        verified=per_request(np.minimum(accepted + 1, drafted)),
        drafted=per_request(drafted),
        by_drafted=by_drafted,
    )


def decided(own: Work, described: int | None, decision: float) -> Work:
    """The work with a policy's decisions: one behind each draft from number `described` on, see `Outcome.described`."""
    drafts = np.arange(len(own.nodes))
    asked = np.zeros(len(drafts)) if described is None else np.maximum(drafts - described + 1, 0)
    return replace(own, decisions=(decision * asked).tolist())
