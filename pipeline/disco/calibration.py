"""From scores to probabilities: Platt's scaling and its measure."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_calibration_error, binary_roc

BINS = 15
ROC_POINTS = 64


def platt(logits: Tensor, label: Tensor) -> tuple[float, float]:
    """Slope and shift that make sigmoid(slope * logit + shift) fit best (Platt 1999): (N,), (N,) -> two numbers.

    Labels may be probabilities. The slope stays positive: calibration must not turn the order round. Without any row the scores
    stay as they are.
    """
    if not len(logits):
        return 1.0, 0.0
    logits, label = logits.double(), label.double()
    raw = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # log slope, shift
    optimiser = torch.optim.LBFGS([raw], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.binary_cross_entropy_with_logits(raw[0].exp() * logits + raw[1], label)
        # A perfectly separable split has no finite slope: this keeps it sane and is nothing beside real data.
        loss = loss + 1e-4 * raw.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call, unused-ignore]
    slope, shift = raw.detach().tolist()
    return float(torch.tensor(slope).exp()), float(shift)


def curves(probability: Tensor, happened: Tensor) -> dict[str, Any]:
    """ROC and reliability, as reports draw them: (N,), int64 (N,) -> "auc", "roc" and "bins", the latter over 15 equal bins."""
    said, label = probability.float(), happened.long()
    false_positive, true_positive, _ = binary_roc(said, label, thresholds=ROC_POINTS)
    points = zip(false_positive.tolist(), true_positive.tolist(), strict=True)
    place = (said * BINS).long().clamp(max=BINS - 1)
    bins = []
    for number in range(BINS):
        inside = place == number
        if count := int(inside.sum()):
            predicted, observed = float(said[inside].mean()), float(label[inside].double().mean())
            bins.append({"predicted": predicted, "observed": observed, "count": count})
    return {
        "auc": float(binary_auroc(said, label)),
        "roc": [{"false_positive": x, "true_positive": y} for x, y in points],
        "bins": bins,
    }


def expected_calibration_error(probability: Tensor, happened: Tensor) -> float:
    """Mean gap between what was said and what happened, over 15 equal bins: (N,), int64 (N,) -> 0 to 1."""
    return float(binary_calibration_error(probability.float(), happened, n_bins=BINS, norm="l1"))
