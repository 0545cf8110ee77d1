"""One resumable training phase: a model, packed ids and a schedule in; the trained model out."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from safetensors.torch import load_model, save_model
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from pipeline.fit.schedule import Schedule
from pipeline.pretraining.data import Windows
from pipeline.pretraining.module import Pretraining
from pipeline.runner.stage import Advance, unseen


class BudgetBar(Callback):
    """Advances a progress bar by the share of the budget used: `advance(per mille, text)`."""

    def __init__(self, advance: Advance):
        self.advance, self.done = advance, 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Advance the bar by the budget that a killed run had used, as work done before this one."""
        assert isinstance(pl_module, Pretraining)
        self.done = int(1000 * pl_module.progress)
        self.advance(self.done, kept=True)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance the bar by the whole per mille that the batch used of the budget."""
        assert isinstance(pl_module, Pretraining)
        now = int(1000 * pl_module.progress)
        if now > self.done:
            self.advance(now - self.done)
            self.done = now


def train(
    model: PreTrainedModel,
    ids: np.ndarray,
    schedule: Schedule,
    folder: Path,
    *,
    length: int,
    batch: int,
    seed: int,
    teacher: PreTrainedModel | None = None,
    advance: Advance = unseen,
    accelerator: str = "cpu",
) -> dict[str, float]:
    """Train `model` in place and return {"updates", "minutes", "tokens"}; `folder` keeps what a killed run needs to go on.

    A finished phase is not repeated: its weights are read back from `folder/model.safetensors`. A budget of 0 minutes
    leaves the model as it is.
    """
    if schedule.minutes == 0:
        advance(1000, kept=True)
        return {"updates": 0.0, "minutes": 0.0, "tokens": 0.0}
    folder.mkdir(parents=True, exist_ok=True)
    done, last = folder / "model.safetensors", folder / "last.ckpt"
    module = Pretraining(model, schedule, teacher)
    if done.exists():
        load_model(model, done)
        report = torch.load(folder / "spent.pt", weights_only=True)
        advance(1000, kept=True)
        return dict(report)
    first = 0
    if last.exists():
        first = int(torch.load(last, weights_only=True, map_location="cpu")["budget"]["updates"])
    windows = Windows(ids, length, batch, schedule.steps, seed, first)
    _quiet()
    trainer = _trainer(folder, advance, accelerator)
    torch.manual_seed(seed)
    loader = DataLoader(windows, batch_size=None, shuffle=False, num_workers=0)
    model.train()
    trainer.fit(module, loader, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    model.eval()
    report = {
        "updates": float(module.updates),
        "minutes": module.spent / 60,
        "tokens": float(module.updates * batch * length),
    }
    torch.save(report, folder / "spent.pt")
    partial = folder / "model.tmp"
    save_model(model, str(partial))
    partial.replace(done)
    return report


def _trainer(folder: Path, advance: Advance, accelerator: str) -> L.Trainer:
    return L.Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=1,
        logger=CSVLogger(folder, name="log", version=""),
        callbacks=[
            BudgetBar(advance),
            ModelCheckpoint(
                dirpath=folder, filename="last", every_n_train_steps=200, save_top_k=1, enable_version_counter=False
            ),
        ],
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=10,
    )


def _quiet() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
