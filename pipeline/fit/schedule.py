"""Budgets and step sizes of a training: warm-up, stable, linear decay, by steps or by the clock."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch


@dataclass
class Schedule:
    """Budget and step sizes of one training phase; the run ends at whichever of `steps` and `minutes` comes first."""

    steps: int = 2000
    minutes: float = 60.0  # by `budget_seconds`
    matrix_lr: float = 0.02  # Muon (Jordan et al. 2024): update of orthogonal direction, so far above Adam's
    table_lr: float = 0.01  # AdamW, for embeddings and norm gains
    warmup: float = 0.02
    decay: float = 0.45  # share of the budget over which the rate falls linearly to zero (warmup-stable-decay)
    tv_from: float = 0.6  # distillation only: progress from which the loss moves from KL to total variation

    def progress(self, updates: int, seconds: float) -> float:
        """Share of the budget used, in [0, 1]."""
        return min(1.0, max(updates / self.steps, seconds / (60 * self.minutes)))

    def scale(self, progress: float) -> float:
        """Learning-rate factor at `progress` in [0, 1]."""
        rise = min(1.0, progress / self.warmup) if self.warmup else 1.0
        return max(0.02, rise) * min(1.0, max(0.0, (1.0 - progress) / self.decay))

    def tv_weight(self, progress: float) -> float:
        """Weight of total variation in the loss: from 0 at `tv_from` to 1 halfway to the end."""
        return min(1.0, max(0.0, (progress - self.tv_from) / max(1e-9, (1.0 - self.tv_from) / 2)))


def budget_seconds(device: torch.device) -> float:
    """Seconds on the clock that budgets count by: on a CPU those it computed, per thread; elsewhere those that passed.

    What else a CPU does meanwhile then takes nothing from the budget. The beginning is arbitrary.
    """
    return time.process_time() / torch.get_num_threads() if device.type == "cpu" else time.monotonic()
