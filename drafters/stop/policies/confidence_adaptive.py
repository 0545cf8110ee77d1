"""transformers' adaptive confidence threshold: the best point of the ROC curve of past drafts, without scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from drafters.stop.features import DRAWN
from drafters.stop.policy import StopPolicy

ENOUGH = 5  # pairs must be more than this
MISSED_COSTS = 3.0  # stopping before an accepted token hurts more than drafting one that is rejected
Pairs = list[tuple[float, bool]]


def best_threshold(pairs: Pairs) -> float | None:
    """The threshold with the smallest false positive rate + 3 x false negative rate, the highest among equals.

    Args:
        pairs: (q(x), accepted). A draft counts as positive where q(x) >= threshold.

    Returns None for five pairs or fewer, or of one class only.
    """
    matches = sum(accepted for _, accepted in pairs)
    if len(pairs) <= ENOUGH or matches in (0, len(pairs)):
        return None
    candidates = [float("inf"), *sorted({q for q, _ in pairs}, reverse=True)]

    misses = len(pairs) - matches

    def cost(threshold: float) -> float:  # times matches * misses: whole numbers, so that equals are equal
        wrong = sum(q >= threshold and not accepted for q, accepted in pairs)
        missed = sum(q < threshold and accepted for q, accepted in pairs)
        return wrong * matches + MISSED_COSTS * missed * misses

    return min(candidates, key=cost)


@dataclass
class AdaptiveConfidence(StopPolicy):
    """`Confidence` whose threshold is learnt per row from what was verified: accepted drafts and the first rejected one.

    Drafts behind a rejection were never tested and are forgotten. `window`: pairs remembered, where transformers keeps all.
    """

    threshold: float = 0.4
    max_length: int = 20
    window: int = 256
    persist: bool = False
    _pairs: list[Pairs] = field(init=False, repr=False, compare=False, default_factory=list)
    _thresholds: Tensor = field(init=False, repr=False, compare=False)
    _seen: list[Tensor] = field(init=False, repr=False, compare=False, default_factory=list)

    needs_features = True

    def __post_init__(self) -> None:
        if self.max_length < 1 or self.window <= ENOUGH:
            got = f"{self.max_length} and {self.window}"
            raise ValueError(f"stop.max_length must be >= 1 and stop.window > {ENOUGH}, got {got}.")
        self._thresholds = torch.zeros(0)

    def should_continue(self, features: Tensor | None, drafted: Tensor) -> Tensor:
        """See StopPolicy."""
        if features is None:
            self._seen = []
            return torch.ones_like(drafted, dtype=torch.bool)
        confidence = features[:, DRAWN].exp()
        self._seen.append(confidence)
        return confidence >= self._thresholds[: len(drafted)].to(drafted.device)

    def on_verified(self, accepted: Tensor, drafted: Tensor, rows: Tensor) -> None:
        """Remember the tested drafts and find the threshold anew."""
        seen = torch.stack(self._seen, 1).tolist() if self._seen else []
        for taken, count, row in zip(accepted.tolist(), drafted.tolist(), rows.tolist(), strict=True):
            # Of a draft that ended a round at its longest, nobody asked about the last token: its q(x) is not known.
            tested = (seen[row] if seen else [])[: min(count, taken + 1)]
            self._pairs[row] = [*self._pairs[row], *((q, place < taken) for place, q in enumerate(tested))][
                -self.window :
            ]
            found = best_threshold(self._pairs[row]) if tested else None
            if found is not None:
                self._thresholds[row] = found

    def reset(self, rows: Tensor) -> None:
        """Forget, unless the thresholds persist."""
        missing = max(0, int(rows.max()) + 1 - len(self._pairs)) if rows.numel() else 0
        self._pairs += [[] for _ in range(missing)]
        self._thresholds = torch.cat([self._thresholds, torch.full((missing,), self.threshold)])
        if not self.persist:
            self._thresholds[rows] = self.threshold
            for row in rows.tolist():
                self._pairs[row] = []
