"""The Lightning module that trains a causal LM from text, or distils it from a frozen teacher of the same tokenizer."""

from __future__ import annotations

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.fit.muon import Muon
from pipeline.fit.schedule import Schedule, budget_seconds


def logits_of(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    """Next-token logits of every position: (B, n) -> (B, n, V)."""
    return model(input_ids=tokens, use_cache=False).logits


def distillation_loss(student: Tensor, teacher: Tensor, tv_weight: float) -> tuple[Tensor, Tensor]:
    """Loss against the teacher's distribution and the mean total variation, both scalars, from logits (..., V).

    The acceptance rate of rejection sampling is 1 - TV (Leviathan et al. 2023, corollary 3.6), so TV is the true goal;
    KL comes first because TV alone has vanishing gradients where the two distributions do not overlap yet.
    """
    log_q = F.log_softmax(student, dim=-1)
    p = F.softmax(teacher, dim=-1)
    tv = (p - log_q.exp()).abs().sum(-1).mean() / 2
    if tv_weight >= 1.0:
        return tv, tv.detach()
    kl = (torch.xlogy(p, p) - p * log_q).sum(-1).mean()
    return (1.0 - tv_weight) * kl + tv_weight * tv, tv.detach()


class Pretraining(L.LightningModule):
    """Next-token training, Muon for matrices and AdamW for the rest; with a teacher, distillation from it."""

    def __init__(self, model: PreTrainedModel, schedule: Schedule, teacher: PreTrainedModel | None = None):
        super().__init__()
        self.model, self.schedule = model, schedule
        self.__dict__["teacher"] = teacher  # outside the module tree: a frozen teacher does not belong into checkpoints
        self.automatic_optimization = False
        self.updates, self.spent = 0, 0.0
        self._clock = 0.0

    @property
    def progress(self) -> float:
        """Share of the budget used, in [0, 1]."""
        return self.schedule.progress(self.updates, self.spent)

    def on_fit_start(self) -> None:
        """Start the clock: only time inside fit counts, also after a resume."""
        self._clock = budget_seconds(self.device)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Muon on the layers' matrices, AdamW on embeddings and gains."""
        embedding = {id(p) for p in self.model.get_input_embeddings().parameters()}
        matrices = [p for p in self.model.parameters() if p.ndim == 2 and id(p) not in embedding]
        rest = [p for p in self.model.parameters() if p.ndim != 2 or id(p) in embedding]
        muon = Muon(matrices, lr=self.schedule.matrix_lr)
        adam = torch.optim.AdamW(rest, lr=self.schedule.table_lr, betas=(0.9, 0.95), weight_decay=0.0)
        return [muon, adam]

    def training_step(self, batch: Tensor, _index: int) -> None:
        """One update on a window batch (B, n + 1)."""
        loss, tv = self._loss(batch)
        self.manual_backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        scale = self.schedule.scale(self.progress)
        for optimizer, rate in zip(self.optimizers(), (self.schedule.matrix_lr, self.schedule.table_lr), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * scale
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        now = budget_seconds(self.device)
        self.spent, self._clock = self.spent + now - self._clock, now
        self.updates += 1
        self.log_dict({"loss": loss.detach(), "tv": tv, "progress": self.progress, "updates": float(self.updates)})
        if self.progress >= 1.0:
            self.trainer.should_stop = True

    def _loss(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        inputs = batch[:, :-1]
        logits = logits_of(self.model, inputs)
        if self.teacher is None:
            return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()), torch.zeros(())
        with torch.no_grad():
            teacher = logits_of(self.teacher, inputs)
        return distillation_loss(logits, teacher, self.schedule.tv_weight(self.progress))

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Keep the budget used so far."""
        checkpoint["budget"] = {"updates": self.updates, "spent": self.spent}

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Restore updates and budget spent, so that training goes on where it was."""
        self.updates, self.spent = checkpoint["budget"]["updates"], checkpoint["budget"]["spent"]
