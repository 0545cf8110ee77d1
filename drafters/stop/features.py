"""What a stop policy may know of a draw: one function, shared by traces, training and decoding.

The distribution is the drafter's as it will be verified: masked to the usable tokens, then warped. At temperature 0
that distribution is a point and would say nothing, so the distribution at temperature 1 stands in for it. Mamou et al.
2024 (arXiv 2405.04304) read the ten largest probabilities, the entropy (taken here over the whole vocabulary; the paper
leaves that open) and the position; the drawn token's probability, the place within the round, what became of the row's
drafts so far and the temperature are ours.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from drafters.probs import Sampling, warp
from drafters.stop import features_host

TOP = 10
NAMES = (
    *(f"log_top{rank}" for rank in range(1, TOP + 1)),
    *("entropy", "log_drawn", "position", "step", "streak", "recent", "temperature"),
)
ENTROPY, DRAWN, POSITION, STEP, STREAK, RECENT, TEMPERATURE = range(TOP, TOP + 7)
FLOOR = 1e-6  # smaller probabilities, and those a short distribution does not have, count as this
TINY = 1e-37  # 0 log 0 is 0; a normal number of both precisions
MEMORY = 0.85  # of `recent`, per verified draft
Number = TypeVar("Number", float, Tensor)


def remember(streak: Number, recent: Number, accepted: Number, rejected: Number) -> tuple[Number, Number]:
    """How a row's past changes in a round: `streak`, drafts accepted in a row; `recent`, the smoothed share of accepted drafts.

    Args:
        accepted: drafts accepted. rejected: 1 where the round ended with a rejection, 0 where every draft was accepted.
    """
    recent = (1 - (1 - recent) * MEMORY**accepted) * MEMORY**rejected
    return (streak + accepted) * (1 - rejected), recent


UNKNOWN = (0.0, 0.5)  # streak and recent share of a row without a past


def shown_law(q: Tensor, logits: Tensor, sampling: Sampling) -> Tensor:
    """The distribution that features describe: q (..., D), or at temperature 0 the softmax of the masked `logits` (..., D)."""
    return warp(logits, Sampling(1.0)) if sampling.greedy else q


Past = tuple[Tensor, Tensor, Tensor]  # what `past_columns` takes


def describe(law: Tensor, drawn: Tensor, position: Tensor, past: Past, temperature: float) -> Tensor:
    """Features fp32 (B, F) in the order of NAMES, all finite.

    Args:
        law: (B, D) that the draw was made from, see `shown_law`. drawn: (B,) the drawn token's probability, 0 for a miss.
        position: int64 (B,) tokens since generation began. past: see `past_columns`.
    """
    if law.device.type == "cpu":
        return features_host.describe(law, drawn, position, past, temperature, TOP, FLOOR, TINY)
    return _on_device(law, drawn, position, past, temperature)


def _on_device(law: Tensor, drawn: Tensor, position: Tensor, past: Past, temperature: float) -> Tensor:
    top = law.topk(min(TOP, law.shape[-1]), dim=-1).values.float()
    if top.shape[-1] < TOP:
        top = torch.nn.functional.pad(top, (0, TOP - top.shape[-1]))
    logs = torch.cat([top, drawn.float().unsqueeze(-1)], -1).clamp_(min=FLOOR).log_()  # (B, TOP + 1)
    entropy, place = entropies(law).unsqueeze(-1), position.clamp(min=0).float().log1p().unsqueeze(-1)
    heat = logs.new_full((logs.shape[0], 1), temperature)
    return torch.cat([logs[:, :TOP], entropy, logs[:, TOP:], place, past_columns(*past), heat], -1)


def past_columns(step: Tensor, streak: Tensor, recent: Tensor) -> Tensor:
    """The columns STEP, STREAK and RECENT of a draw, fp32 (B, 3).

    Args:
        step: int64 (B,) draws before this one in its round, taken as accepted. streak, recent: (B,) when the round began.
    """
    return torch.stack([step.float().log1p(), (streak + step).float().log1p(), recent.float()], -1)


def entropies(law: Tensor) -> Tensor:
    """Entropy of each row in nats, fp32: (..., D) -> (...,)."""
    return -(law * law.clamp(min=TINY).log_()).sum(-1).float()
