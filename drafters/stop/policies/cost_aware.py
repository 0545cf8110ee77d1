"""Draft while one more token is worth its time: no threshold to tune, and nothing drafted where drafting never pays.

A round of k drafts takes 1 + c k target forwards and emits 1 + S_1 + ... + S_k tokens, S_j the probability that the first j
drafts are all accepted. The best long-run rate L = tokens / time is the one for which max E[tokens - L time] = 0 (Dinkelbach), and
one more draft adds S_(j+1) tokens and c time: go on while S_j P(next accepted) >= L c. S never rises, so looking one step ahead is
enough where the probabilities are right.

Before a round's first draft nothing is known of that round, only of the text: rounds that draft, taken together, pay where their
rate is at least plain decoding's 1. That holds the further drafts' worth too, which the first draft's own acceptance leaves out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from drafters.stop.classifier import ACCEPTED, NEXT
from drafters.stop.policy import PerRow, StopPolicy

TOKENS, TIME, FRUITLESS, WAITED, PATIENCE = range(5)
PRIOR_TIME = 16.0  # target forwards that the rate known beforehand counts as
MEMORY = 0.97  # of the rate, per round that drafts
SURE = 1e-3  # rounds without an accepted draft end drafting once a text like those of training has them this rarely
SHORTEST_WAIT, LONGEST_WAIT = 8.0, 1024.0  # rounds without drafts before drafting is tried again


@dataclass
class CostAware(StopPolicy):
    """See the module. `c`: seconds of one more draft (drafter forward, this policy, one more token to verify) / target forward.

    `rate` (tokens per target forward's time of rounds that draft; below 1 they do not pay) is where each row starts from; it goes
    on from what it sees. `first`: acceptance of a draft in texts like those of training. A decision takes time too: a round that
    drafts at all drafts `min_length` tokens before the first one, each counted as accepted with `first`. Raises ValueError for
    costs, rates or lengths that cannot be.
    """

    classifier: Callable[[Tensor], Tensor]  # features (B, F) -> (B, 2), see Classifier
    c: float
    rate: float = 1.0
    first: float = 0.7
    max_length: int = 20
    min_length: int = 1
    persist: bool = False
    _state: PerRow = field(init=False, repr=False, compare=False)
    # A round's state is in numpy, where it is decided on: on a few numbers a tensor operation costs overhead alone.
    _survival: np.ndarray = field(init=False, repr=False, compare=False)  # fp64 (B,)
    # fp64 (B,): price of a draft, for the round that began last
    _price: np.ndarray = field(init=False, repr=False, compare=False)

    needs_features = True

    def __post_init__(self) -> None:
        if not self.c >= 0 or not self.rate > 0 or not 0 <= self.first <= 1:
            raise ValueError(
                "stop.c must be >= 0, stop.rate > 0 and stop.first a probability, got "
                f"{self.c}, {self.rate} and {self.first}."
            )
        if not 1 <= self.min_length <= self.max_length:
            raise ValueError(
                "stop.min_length must be >= 1 and stop.max_length at least that, got "
                f"{self.min_length} and {self.max_length}."
            )
        self._state = PerRow([self.rate * PRIOR_TIME, PRIOR_TIME, 0.0, 0.0, self._wait], self.persist)
        self._survival = self._price = np.ones(0)

    @cached_property
    def _hopeless(self) -> float:
        """Rounds in a row without an accepted draft after which a text is taken to be foreign."""
        in_vain = max(1 - self.first, 0.1)  # three rounds are few enough
        return math.inf if in_vain == 1 else math.ceil(math.log(SURE) / math.log(in_vain))

    @cached_property
    def _wait(self) -> float:
        """Rounds before the first trial: the more a trial costs, the longer."""
        return float(np.clip(32 * self.c, SHORTEST_WAIT, LONGEST_WAIT))

    def should_continue(self, features: Tensor | None, drafted: Tensor) -> Tensor:
        """Continue while the next draft's chance of acceptance pays its cost at the row's rate; bool (B,)."""
        if features is None:
            state = self._state.values.numpy()[: len(drafted)]
            rate = state[:, TOKENS] / state[:, TIME]
            self._price = self.c * np.maximum(rate, 1.0)  # at least plain decoding's 1: who drafts nothing has that
            self._survival = np.full(len(drafted), self.first ** (self.min_length - 1))
            pays = (rate >= 1) & (state[:, FRUITLESS] < self._hopeless)
            # A draft that costs a target forward never pays.
            goes_on = (self.c < 1) & (pays | (state[:, WAITED] >= state[:, PATIENCE]))
        else:
            said = self.classifier(features).cpu().numpy()
            self._survival = self._survival * said[:, ACCEPTED]
            goes_on = self._survival * said[:, NEXT] >= self._price
        return torch.from_numpy(goes_on).to(drafted.device)

    def on_verified(self, accepted: Tensor, drafted: Tensor, rows: Tensor) -> None:
        """Update each row's rate, its count of rounds without an accepted draft, and its wait before drafting again."""
        state, taking_part = self._state.values.numpy(), rows.tolist()
        for row, passed, length in zip(taking_part, accepted.tolist(), drafted.tolist(), strict=True):
            tokens, time, fruitless, waited, patience = state[row].tolist()
            if not length:
                state[row, WAITED] = waited + 1
                continue
            if waited:
                # A trial that fails doubles the wait: text that cannot be drafted costs ever less.
                patience = self._wait if passed else min(2 * patience, LONGEST_WAIT)
            tokens, time = MEMORY * tokens + passed + 1, MEMORY * time + 1 + self.c * length
            state[row] = tokens, time, 0.0 if passed else fruitless + 1, 0.0, patience

    def reset(self, rows: Tensor) -> None:
        """Back to what was known beforehand, unless it persists."""
        self._state.reset(rows)
