"""What the cost-aware rule would reach if it knew both laws: what is left then are the coins and the rule itself. No bound on other rules.

The oracle knows the coins, which no policy can. Here the classifier's two numbers are replaced by the true ones: the chance that the
drafted token is accepted, and the chance that the next one would be, before it is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from drafters.stop.policies.cost_aware import CostAware
from eval.stop.replay import Outcome, Prices, Trace, replay
from pipeline.disco.policies.tune import FEWEST, fixed_point

LAWS_KNOWN = "laws known"


class Told:
    """A classifier that is told the truth: its features begin with the two chances."""

    def __call__(self, features: Tensor) -> Tensor:
        """Features (B, F) -> (B, 2), see drafters.stop.classifier.Classifier."""
        return features[:, :2]


def informed(traces: Sequence[Trace], prices: Prices, first: float, longest: int) -> Outcome:
    """The rule told both chances of every draft, its rate and its fewest drafts the best for these very traces; it pays for its decisions
    like any other.

    Args:
        first: acceptance of a draft, which a round's first decision goes by. longest: most drafts of any round.
    """
    told, c = [_told(trace) for trace in traces], prices.marginal()
    outcomes = []
    for least in [length for length in FEWEST if length <= longest]:
        rate = fixed_point(told, Told(), c, first, longest, least)[-1]
        outcomes.append(replay(told, CostAware(Told(), c, rate, first, longest, least)))
    return max(outcomes, key=lambda outcome: outcome.speed(prices))


def _told(trace: Trace) -> Trace:
    following = pad(trace.overlap[1:], (0, 1))  # nothing is drafted behind the last token
    features = torch.zeros_like(trace.features)
    features[:, 0], features[:, 1] = trace.chance, following
    return replace(trace, features=features)
