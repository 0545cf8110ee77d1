"""Features on the CPU without tensors: those of `drafters.stop.features`, which on a dozen numbers a row are all call overhead."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def describe(
    law: Tensor, drawn: Tensor, position: Tensor, past: tuple[Tensor, Tensor, Tensor], temperature: float, top: int,
    floor: float, tiny: float,
) -> Tensor:  # fmt: skip
    """`features.describe` of fp32 or fp64 on the CPU, row by row: fp32 (B, F). The last three are its TOP, FLOOR and TINY."""
    count, (steps, streaks, recents) = min(top, law.shape[-1]), (part.tolist() for part in past)
    missing = [floor] * (top - count)
    found = []
    for number, (row, likely, place) in enumerate(zip(law.numpy(), drawn.tolist(), position.tolist(), strict=True)):
        largest = np.partition(row, len(row) - count)[-count:]
        largest.sort()
        logs = [math.log(max(chance, floor)) for chance in (*largest[::-1].tolist(), *missing, likely)]
        raised = np.maximum(row, tiny) if row.min() < tiny else row  # most distributions have no zeros
        entropy = -float(row.dot(np.log(raised)))
        counts = (max(place, 0), steps[number], steps[number] + streaks[number])
        found.append([*logs[:top], entropy, logs[top], *map(math.log1p, counts), recents[number], temperature])
    return torch.from_numpy(np.array(found, np.float32))
