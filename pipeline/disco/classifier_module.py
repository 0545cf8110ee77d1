"""The classifier and its training step."""

from __future__ import annotations

from itertools import pairwise

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAUROC, BinaryCalibrationError, BinaryF1Score

from drafters.stop.features import NAMES

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
        """See the class."""
        hidden = (features - self.mean) / self.scale
        for layer in self.layers[:-1]:
            hidden = F.relu(layer(hidden))
        return self.layers[-1](hidden)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
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
        """Log the epoch's measures."""
        for measure in (self.accepted, self.next):
            if measure["auroc"].update_called:
                self.log_dict(measure.compute(), sync_dist=False)
            measure.reset()


def loss_of(logits: Tensor, label: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy, the sum over outputs of the mean over their known rows: (B, 2) each -> scalar."""
    each = F.binary_cross_entropy_with_logits(logits, label, reduction="none") * known
    return (each.sum(0) / known.sum(0).clamp(min=1)).sum()
