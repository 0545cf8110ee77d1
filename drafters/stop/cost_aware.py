"""Draft while one more token is worth its time: no threshold to tune, and nothing drafted where drafting never pays.

A round of k drafts takes 1 + c k target forwards and emits 1 + S_1 + ... + S_k tokens, S_j the probability that the first j
drafts are all accepted. The best long-run rate L = tokens / time is the one for which max E[tokens - L time] = 0 (Dinkelbach), and
one more draft adds S_(j+1) tokens and c time: go on while S_j P(next accepted) >= L c. S never rises, so looking one step ahead is
enough where the probabilities are right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from drafters.stop.classifier import ACCEPTED, NEXT
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
    goes on from what it sees. A decision takes time too: a round that drafts at all drafts `min_length` tokens before the first
    one, each counted as accepted like a first draft. Raises ValueError for costs, rates or lengths that cannot be.
    """

    classifier: Callable[[Tensor], Tensor]  # features (B, F) -> (B, 2), see Classifier
    c: float
    rate: float = 1.0
    first: float = 0.7
    max_length: int = 20
    min_length: int = 1
    persist: bool = False
    _state: PerRow = field(init=False, repr=False, compare=False)
    # A round's state is on the host, where the decision is wanted: on a few numbers, each tensor operation is all overhead.
    _survival: np.ndarray = field(init=False, repr=False, compare=False)  # fp64 (B,)
    _price: np.ndarray = field(
        init=False, repr=False, compare=False
    )  # fp64 (B,) of a draft, for the round that began last

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
        start = [self.rate * PRIOR_TIME, PRIOR_TIME, self.first * PRIOR_ROUNDS, PRIOR_ROUNDS, 0.0, FIRST_WAIT]
        self._state = PerRow(start, self.persist)
        self._survival = self._price = np.ones(0)

    def should_continue(self, features: Tensor | None, drafted: Tensor) -> Tensor:
        """See StopPolicy."""
        if features is None:
            state = self._state.values.numpy()[: len(drafted)]
            # Tokens per time, at least plain decoding's 1: who drafts nothing has that.
            self._price = self.c * np.maximum(state[:, TOKENS] / state[:, TIME], 1.0)
            first = state[:, TAKEN] / state[:, TRIED]
            together = first[:, None] ** np.arange(1, self.min_length + 1)  # chance that so many drafts are accepted
            self._survival = first ** (self.min_length - 1)
            goes_on = together.mean(-1) >= self._price
            if self.c < 1:
                goes_on |= state[:, WAITED] >= state[:, PATIENCE]
        else:
            said = self.classifier(features).cpu().numpy()
            self._survival = self._survival * said[:, ACCEPTED]
            goes_on = self._survival * said[:, NEXT] >= self._price
        return torch.from_numpy(goes_on).to(drafted.device)

    def on_verified(self, accepted: Tensor, drafted: Tensor, rows: Tensor) -> None:
        """Update the row's rate and its first drafts' acceptance."""
        state, taking_part = self._state.values.numpy(), rows.tolist()
        for row, passed, length in zip(taking_part, accepted.tolist(), drafted.tolist(), strict=True):
            tokens, time, taken, tried, waited, patience = state[row].tolist()
            tokens, time = MEMORY * tokens + passed + 1, MEMORY * time + 1 + self.c * length
            if length and waited:
                # A trial that fails doubles the wait: text that cannot be drafted costs ever less.
                patience = FIRST_WAIT if passed else min(2 * patience, LONGEST_WAIT)
            if length:
                taken, tried = MEMORY * taken + (passed > 0), MEMORY * tried + 1
            state[row] = tokens, time, taken, tried, 0.0 if length else waited + 1, patience

    def reset(self, rows: Tensor) -> None:
        """Back to what was known beforehand, unless it persists."""
        self._state.reset(rows)
