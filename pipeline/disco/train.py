"""The classifier and its training; killed at any moment, the next run goes on after the last whole epoch."""

from __future__ import annotations

import logging
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAUROC, BinaryCalibrationError, BinaryF1Score

from drafters.stop.features import NAMES
from pipeline.disco.traces.trace_rows import DiscoData, Rows
from pipeline.runner.stage import Advance, unseen

BEST, LAST = "best.ckpt", "last.ckpt"
OUTPUTS = ("accepted", "next")


class DiscoModule(L.LightningModule):
    """Features (B, F) -> logits (B, 2), see `drafters.stop.classifier`.

    A feed-forward network on standardised features, trained with binary cross-entropy on labels that may be probabilities. Width,
    activation and optimiser are ours: the paper does not give them. No class weights: the scores are used as probabilities.
    """

    def __init__(self, hidden: list[int], lr: float, weight_decay: float):
        super().__init__()
        self.save_hyperparameters()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(len(NAMES)))
        self.register_buffer("scale", torch.ones(len(NAMES)))
        widths = [len(NAMES), *hidden, len(OUTPUTS)]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        measures = MetricCollection({"auroc": BinaryAUROC(), "f1": BinaryF1Score(), "ece": BinaryCalibrationError()})
        self.accepted, self.next = (measures.clone(prefix=f"val_{name}_") for name in OUTPUTS)

    def standardise(self, features: Tensor) -> None:
        """Take mean and scale from training rows (N, F); a feature that never changes keeps scale 1."""
        spread = features.std(0)
        self.mean.copy_(features.mean(0))
        self.scale.copy_(torch.where(spread > 1e-6, spread, torch.ones_like(spread)))

    def forward(self, features: Tensor) -> Tensor:
        """Standardise the features fp32 (B, F) and return logits (B, 2)."""
        hidden = (features - self.mean) / self.scale
        for layer in self.layers[:-1]:
            hidden = F.relu(layer(hidden))
        return self.layers[-1](hidden)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over all parameters, with the learning rate and weight decay of the settings."""
        return torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"], weight_decay=self.hparams["weight_decay"])

    def training_step(self, batch: list[Tensor], _index: int) -> Tensor:
        """Mean loss of the outputs that have a label."""
        features, label, known, _ = batch
        loss = loss_of(self(features), label, known)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(features), sync_dist=True)
        return loss

    def validation_step(self, batch: list[Tensor], _index: int) -> None:
        """Loss, and per output AUROC, F1 and expected calibration error against what happened."""
        features, label, known, happened = batch
        logits = self(features)
        loss = loss_of(logits, label, known)
        self.log("val_loss", loss, batch_size=len(features), sync_dist=True)
        for output, measure in enumerate((self.accepted, self.next)):
            rows = known[:, output]
            if not bool(rows.any()):
                continue  # nothing was accepted here, so no next draft was met
            measure.update(logits[rows, output].sigmoid(), happened[rows, output])

    def on_validation_epoch_end(self) -> None:
        """Log AUROC and the epoch's other measures of both outputs, then reset them."""
        for measure in (self.accepted, self.next):
            if measure["auroc"].update_called:
                self.log_dict(measure.compute(), sync_dist=False)
            measure.reset()


def loss_of(logits: Tensor, label: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy, the sum over outputs of the mean over their known rows: (B, 2) each -> scalar."""
    each = F.binary_cross_entropy_with_logits(logits, label, reduction="none") * known
    return (each.sum(0) / known.sum(0).clamp(min=1)).sum()


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


class TrainingSettings(Protocol):
    """What the configuration of `train_disco` says of the training."""

    hidden: list[int]
    lr: float
    weight_decay: float
    batch: int
    epochs: int
    patience: int
    devices: int
    accelerator: str
    strategy: str


def fit(
    train: Rows,
    validation: Rows,
    settings: TrainingSettings,
    folder: Path,
    *,
    seed: int,
    loggers: list[Logger],
    advance: Advance = unseen,
) -> DiscoModule:
    """The classifier with the smallest validation loss; `folder` keeps the checkpoints."""
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
