"""Metrics of a training: always a CSV file, and Weights & Biases where the user asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


def loggers(cfg: DictConfig, out: Path, name: str) -> list[Logger]:
    """Loggers for a Lightning Trainer (or for ``log_metrics`` by hand).

    ``out/metrics/metrics.csv`` becomes part of the stage's output; W&B's own files go below ``runs_dir``, outside it.
    ``tracking.wandb=offline`` sends nothing; ``online`` takes its key from the environment or W&B's own login.
    """
    from lightning.pytorch.loggers import CSVLogger, WandbLogger  # here: only trainings pay for the import

    found: list[Logger] = [CSVLogger(save_dir=out, name="", version="metrics")]
    if cfg.tracking.wandb != "disabled":
        offline = cfg.tracking.wandb == "offline"
        found.append(WandbLogger(name=name, project=cfg.tracking.project, save_dir=cfg.runs_dir, offline=offline))
    return found
