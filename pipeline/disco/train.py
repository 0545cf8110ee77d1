"""Fits the classifier; killed at any moment, the next run goes on after the last whole epoch."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from pipeline.disco.classifier_module import DiscoModule
from pipeline.disco.traces.trace_rows import DiscoData, Rows
from pipeline.runner.stage import Advance, unseen

BEST, LAST = "best.ckpt", "last.ckpt"


class EpochBar(Callback):
    """Calls `advance` after every epoch."""

    def __init__(self, advance: Advance):
        self.advance = advance

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Advance the bar by the epochs that a killed run had done."""
        self.advance(trainer.current_epoch, kept=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Advance the bar by one epoch."""
        self.advance()


def fit(
    train: Rows,
    validation: Rows,
    settings: DictConfig,
    folder: Path,
    *,
    seed: int,
    loggers: list[Logger],
    advance: Advance = unseen,
) -> DiscoModule:
    """The classifier with the smallest validation loss; `folder` keeps the checkpoints.

    `settings` as of `train_disco`: hidden, lr, weight_decay, batch, epochs, patience, devices, accelerator, strategy.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _quiet()
    L.seed_everything(seed, verbose=False)
    module = DiscoModule(list(settings.hidden), settings.lr, settings.weight_decay)
    module.standardise(train.features)
    last = folder / LAST
    alone = settings.devices == 1
    callbacks: list[Any] = [
        ModelCheckpoint(folder, "best", monitor="val_loss", save_last=True, enable_version_counter=False),
        EarlyStopping("val_loss", patience=settings.patience),
    ]
    trainer = L.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        strategy="auto" if alone else settings.strategy,
        max_epochs=settings.epochs,
        logger=loggers,
        callbacks=[*callbacks, EpochBar(advance)] if alone else callbacks,  # a bar cannot be sent to other processes
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        use_distributed_sampler=False,
    )
    data = DiscoData(train, validation, settings.batch, seed)
    trainer.fit(module, data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    state = torch.load(folder / BEST, weights_only=True, map_location="cpu")["state_dict"]
    module.load_state_dict(state)
    return module.cpu().eval()


def _quiet() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*smaller than the logging interval.*",
        ".*Checkpoint directory.*",
        ".*treespec, LeafSpec.*",
    ):
        warnings.filterwarnings("ignore", message=message)
