"""Draft while one more token is worth its time: no threshold to tune, and nothing drafted where drafting never pays.

A round of k drafts takes 1 + c k target forwards and emits 1 + S_1 + ... + S_k tokens, S_j the probability that the first j
drafts are all accepted. The best long-run rate L = tokens / time is the one for which max E[tokens - L time] = 0 (Dinkelbach), and
one more draft adds S_(j+1) tokens and c time: go on while S_j P(next accepted) >= L c. S never rises, so looking one step ahead is
enough where the probabilities are right.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from drafters.stop.classifier import Classifier
from drafters.stop.rows import PerRow

TOKENS, TIME, TAKEN, TRIED, WAITED, PATIENCE = range(6)
PRIOR_TIME = 16.0  # target forwards that the rate known beforehand counts as
PRIOR_ROUNDS = 2.0  # rounds that the first draft's acceptance known beforehand counts as
MEMORY = 0.97  # of both, per round
FIRST_WAIT, LONGEST_WAIT = 32.0, 1024.0  # rounds without drafts before drafting is tried again


@dataclass
class CostAware:
    """See the module. `c`: seconds of one more draft (drafter forward, this policy, one more token to verify) / target forward.

    `rate` (tokens per target forward's time) and `first` (acceptance of a round's first draft) are where each row starts from; it
    goes on from what it sees. Raises ValueError for costs or rates that cannot be.
    """

    classifier: Classifier
    c: float
    rate: float = 1.0
    first: float = 0.7
    max_length: int = 20
    persist: bool = False
    _state: PerRow = field(init=False, repr=False, compare=False)
    _survival: Tensor = field(init=False, repr=False, compare=False)
    _price: Tensor = field(init=False, repr=False, compare=False)  # of a draft, for the round that began last

    needs_features = True

    def __post_init__(self) -> None:
        if self.max_length < 1 or not self.c >= 0 or not self.rate > 0 or not 0 <= self.first <= 1:
            raise ValueError(
                "stop.max_length must be >= 1, stop.c >= 0, stop.rate > 0 and stop.first a probability, got "
                f"{self.max_length}, {self.c}, {self.rate} and {self.first}."
            )
        start = [self.rate * PRIOR_TIME, PRIOR_TIME, self.first * PRIOR_ROUNDS, PRIOR_ROUNDS, 0.0, FIRST_WAIT]
        self._state = PerRow(start, self.persist)
        self._survival = self._price = torch.ones(0)

    def should_continue(self, features: Tensor | None, drafted: Tensor) -> Tensor:
        """See StopPolicy."""
        if features is None:
            self._survival = torch.ones(len(drafted), device=drafted.device)
            self._price = self.c * self._rates(drafted)
            return self._begins(drafted, self._price)
        accepted, following = self.classifier(features).unbind(-1)
        self._survival = self._survival * accepted
        return self._survival * following >= self._price

    def _rates(self, drafted: Tensor) -> Tensor:
        """The row's tokens per time, at least plain decoding's 1: who drafts nothing has that."""
        tokens, time = self._state.column(TOKENS, drafted), self._state.column(TIME, drafted)
        return (tokens / time).clamp(min=1.0)

    def _begins(self, drafted: Tensor, price: Tensor) -> Tensor:
        first = self._state.column(TAKEN, drafted) / self._state.column(TRIED, drafted)
        waited = self._state.column(WAITED, drafted) >= self._state.column(PATIENCE, drafted)
        return (first >= price) | (waited if self.c < 1 else torch.zeros_like(waited))

    def on_verified(self, accepted: Tensor, drafted: Tensor, rows: Tensor) -> None:
        """Update the row's rate and its first drafts' acceptance."""
        tokens, time, taken, tried, waited, patience = self._state.values[rows].unbind(-1)
        began, was_off = drafted > 0, waited > 0
        tokens, time = MEMORY * tokens + accepted + 1, MEMORY * time + 1 + self.c * drafted
        taken = torch.where(began, MEMORY * taken + (accepted > 0), taken)
        tried = torch.where(began, MEMORY * tried + 1, tried)
        # A trial that fails doubles the wait: text that cannot be drafted costs ever less.
        longer = torch.where(accepted > 0, FIRST_WAIT, (2 * patience).clamp(max=LONGEST_WAIT))
        patience = torch.where(began & was_off, longer, patience)
        waited = torch.where(began, 0.0, waited + 1)
        self._state.values[rows] = torch.stack([tokens, time, taken, tried, waited, patience], -1)

    def reset(self, rows: Tensor) -> None:
        """Back to what was known beforehand, unless it persists."""
        self._state.reset(rows)
